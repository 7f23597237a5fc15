"""What does the QoS order cost against stock Celery on the same Redis, and how does a pick grow with the queue?

    submit_ratio           apply_async a second from one producer, ours / stock
    drain_ratio            no-op tasks a second through a real worker (8 threads), ours / stock
    idle_start_p50_ratio   publish to start on an idle worker, p50, ours / stock
    pick_p99_ms            the dispatch script inside the server, 10^5 messages of 10^3 tenants
    pick_with_limits_p99_ms  the same with a hundred tenants' caps and a bulkhead for each tier, none of them reached
    pick_growth            its p50 at 10^6 messages of 10^4 tenants / at 10^5 of 10^3

Stock is the same worker code on Kombu's own Redis transport: late acknowledgement, prefetch 1, prefetching disabled.
Beside them stand other task queues that are installed, to stock too, each asked once a round (rival_rates.py;
`make rivals`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from qosqueue.broker.address import connect
from qosqueue.settings import Settings
from scripts.bench.pick import MODELS_OF_A_WIDE_WORKER, DeepQueue
from scripts.bench.report import Bar, Figure, Report, arguments, percentile, progress, run
from scripts.bench.rival_rates import RivalRates
from scripts.bench.servers import home_with_broker
from scripts.bench.ways import Way, drain_rate, start_delays_ms, workers

OURS, STOCK = "qosqueue", "stock"
AGAINST_STOCK = {  # what is compared: its ratio with the bar, the name and unit of each one's own value
    "submit": ("submit_ratio", Bar(">=", 0.95), "submit_per_s", "1/s"),
    "drain": ("drain_ratio", Bar(">=", 1.0), "drain_per_s", "1/s"),
    "start": ("idle_start_p50_ratio", Bar("<=", 1.0), "idle_start_p50_ms", "ms"),
}
SMALL, LARGE = (100_000, 1_000), (1_000_000, 10_000)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    options = arguments("queue", __doc__.split("\n")[0], given)
    return run(lambda: measure(options.rounds, options.seed, quick=options.quick))


def measure(rounds: int, seed: int, *, quick: bool) -> Report:
    """All figures of one run."""
    figures, baselines = _against_stock(rounds, seed, quick=quick)
    return Report("queue", seed, [*figures, *_picks(rounds, seed, quick=quick)], baselines)


def _sizes(*, quick: bool) -> tuple[int, int, int]:
    """Messages of one round: published, drained, published to an idle worker."""
    return (500, 500, 40) if quick else (2_000, 1_500, 120)


def _against_stock(rounds: int, seed: int, *, quick: bool) -> tuple[list[Figure], list[Figure]]:
    submits, drains, starts = _sizes(quick=quick)
    rates: dict[str, list[dict[str, float]]] = {"submit": [], "drain": [], "start": []}
    with ExitStack() as running:
        settings = running.enter_context(home_with_broker())
        client = running.enter_context(connect(settings, socket_timeout_s=None))
        both = settings, Settings(**(settings.model_dump() | {"order": "fifo"}))
        ways = dict(zip((OURS, STOCK), map(Way, both), strict=True))
        rivals = RivalRates(running)
        for number in range(-1, rounds):  # the first round is the warm-up
            count = submits if number >= 0 else submits // 4
            seen = {}
            for name, way in ways.items():
                seen[name] = way.publish_rate(count)
                way.purge()
            _keep(rates["submit"], seen | rivals.submit(count), f"submit {number + 1}", warm_up=number < 0)
        running.enter_context(workers(*both))
        with rivals.workers():
            for number in range(-1, rounds):
                count = drains if number >= 0 else drains // 4
                seen = {name: drain_rate(way, client, count) for name, way in ways.items()}
                _keep(rates["drain"], seen | rivals.drain(count), f"drain {number + 1}", warm_up=number < 0)
        for way in ways.values():
            start_delays_ms(way, client, starts // 4, seed)
        for number in range(rounds):
            seen = {
                name: percentile(start_delays_ms(way, client, starts, seed + number), 50) for name, way in ways.items()
            }
            _keep(rates["start"], seen, f"idle start {number + 1}")
    return _ratios(rates), _rates(rates)


def _keep(rounds: list[dict[str, float]], seen: dict[str, float], told: str, *, warm_up: bool = False) -> None:
    if not warm_up:
        rounds.append(seen)
        progress(f"{told}: {', '.join(f'{name} {value:.4g}' for name, value in seen.items())}")


def _ratios(rates: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Figure]:
    """Ours to stock, taken in the same round."""
    return [
        Figure(ratio, [seen[OURS] / seen[STOCK] for seen in rates[what]], bar=bar)
        for what, (ratio, bar, _, _) in AGAINST_STOCK.items()
    ]


def _rates(rates: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Figure]:
    """Each one's own rates, and the others' ratios to stock, which stand beside ours."""
    own, ratios = [], []
    for what, (ratio, _, rate, unit) in AGAINST_STOCK.items():
        for name in rates[what][0]:
            own.append(Figure(f"{name}_{rate}", [seen[name] for seen in rates[what]], unit))
            if name not in (OURS, STOCK):
                ratios.append(Figure(f"{name}_{ratio}", [seen[name] / seen[STOCK] for seen in rates[what]]))
    return [*ratios, *own]


def _picks(rounds: int, seed: int, *, quick: bool) -> list[Figure]:
    picks = 500 if quick else 2_000
    with home_with_broker() as settings, connect(settings, socket_timeout_s=None) as client:
        progress("filling a queue with {} messages of {} tenants".format(*SMALL))
        small = DeepQueue(client, *SMALL, seed)
        normal = [small.measure(picks, seed + number) for number in range(rounds)]
        wide = [
            small.measure(picks, seed + number, models_of_a_worker=MODELS_OF_A_WIDE_WORKER) for number in range(rounds)
        ]
        figures = [
            Figure("pick_p99_ms", [times.p99_us / 1000 for times in normal], "ms", Bar("<=", 1.0)),
            Figure("pick_p50_ms", [times.p50_us / 1000 for times in normal], "ms"),
            Figure("pick_wide_worker_p99_ms", [times.p99_us / 1000 for times in wide], "ms"),
        ]
        if not quick:
            figures.append(_pick_growth(small, rounds, seed, picks))
        small.limit()
        limited = [small.measure(picks, seed + number) for number in range(rounds)]
        figures.append(Figure("pick_with_limits_p99_ms", [times.p99_us / 1000 for times in limited], "ms"))
    return figures


def _pick_growth(small: DeepQueue, rounds: int, seed: int, picks: int) -> Figure:
    with home_with_broker() as settings, connect(settings, socket_timeout_s=None) as client:
        progress("filling a queue with {} messages of {} tenants".format(*LARGE))
        large = DeepQueue(client, *LARGE, seed)
        growth = []
        for number in range(rounds):
            before, after = small.measure(picks, seed + number), large.measure(picks, seed + number)
            growth.append(after.p50_us / before.p50_us)
            progress(f"pick {number + 1}: p50 {after.p50_us:.0f} us against {before.p50_us:.0f} us")
    return Figure("pick_growth", growth, bar=Bar("<=", 1.5))


if __name__ == "__main__":
    sys.exit(main())

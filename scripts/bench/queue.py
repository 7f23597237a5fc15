"""What does the QoS order cost against stock Celery on the same Redis, and how does a pick grow with the queue?

    submit_ratio           apply_async a second from one producer, ours / stock
    drain_ratio            no-op tasks a second through a real worker (8 threads), ours / stock
    idle_start_p50_ratio   publish to start on an idle worker, p50, ours / stock
    pick_p99_ms            the dispatch script inside the server, 10^5 messages of 10^3 tenants
    pick_growth            its p50 at 10^6 messages of 10^4 tenants / at 10^5 of 10^3

Stock is the same worker code on Kombu's own Redis transport: late acknowledgement, prefetch 1, prefetching disabled.
Beside them stand the rates of other task queues that are installed (rival_rates.py; `make rivals`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qosqueue.broker.address import connect
from qosqueue.settings import Settings
from scripts.bench.pick import MODELS_OF_A_WIDE_WORKER, DeepQueue
from scripts.bench.report import Bar, Figure, Report, arguments, percentile, progress, run
from scripts.bench.rival_rates import rival_figures
from scripts.bench.servers import home_with_broker
from scripts.bench.ways import Way, drain_rate, start_delays_ms, workers

SMALL, LARGE = (100_000, 1_000), (1_000_000, 10_000)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    options = arguments("queue", __doc__.split("\n")[0], given)
    return run(lambda: measure(options.rounds, options.seed, quick=options.quick))


def measure(rounds: int, seed: int, *, quick: bool) -> Report:
    """All figures of one run."""
    figures, baselines = _against_stock(rounds, seed, quick=quick)
    submits, drains = _sizes(quick=quick)[:2]
    baselines += rival_figures(rounds, submits=submits, drains=drains)
    return Report("queue", seed, [*figures, *_picks(rounds, seed, quick=quick)], baselines)


def _sizes(*, quick: bool) -> tuple[int, int, int]:
    """Messages of one round: published, drained, published to an idle worker."""
    return (500, 500, 40) if quick else (2_000, 1_500, 120)


def _against_stock(rounds: int, seed: int, *, quick: bool) -> tuple[list[Figure], list[Figure]]:
    submits, drains, starts = _sizes(quick=quick)
    rates: dict[str, list[tuple[float, float]]] = {"submit": [], "drain": [], "start": []}
    with home_with_broker() as settings, connect(settings, socket_timeout_s=None) as client:
        both = settings, Settings(**(settings.model_dump() | {"order": "fifo"}))
        ours, stock = ways = tuple(map(Way, both))
        for number in range(-1, rounds):  # the first round is the warm-up
            pair = []
            for way in ways:
                pair.append(way.publish_rate(submits if number >= 0 else submits // 4))
                way.purge()
            if number >= 0:
                rates["submit"].append((pair[0], pair[1]))
                progress(f"submit {number + 1}: {pair[0]:.0f}/s against {pair[1]:.0f}/s")
        with workers(*both):
            for number in range(-1, rounds):
                pair = [drain_rate(way, client, drains if number >= 0 else drains // 4) for way in ways]
                if number >= 0:
                    rates["drain"].append((pair[0], pair[1]))
                    progress(f"drain {number + 1}: {pair[0]:.0f}/s against {pair[1]:.0f}/s")
            start_delays_ms(ours, client, starts // 4, seed)
            start_delays_ms(stock, client, starts // 4, seed)
            for number in range(rounds):
                pair = [percentile(start_delays_ms(way, client, starts, seed + number), 50) for way in ways]
                rates["start"].append((pair[0], pair[1]))
                progress(f"idle start {number + 1}: p50 {pair[0]:.2f} ms against {pair[1]:.2f} ms")
    bars = {"submit": Bar(">=", 0.95), "drain": Bar(">=", 1.0), "start": Bar("<=", 1.0)}
    names = {"submit": "submit_ratio", "drain": "drain_ratio", "start": "idle_start_p50_ratio"}
    figures = [
        Figure(names[what], [our / theirs for our, theirs in pairs], bar=bars[what]) for what, pairs in rates.items()
    ]
    units = {"submit": ("submit_per_s", "1/s"), "drain": ("drain_per_s", "1/s"), "start": ("idle_start_p50_ms", "ms")}
    own = [
        Figure(f"{who}_{units[what][0]}", [pair[index] for pair in pairs], units[what][1])
        for what, pairs in rates.items()
        for index, who in enumerate(("qosqueue", "stock"))
    ]
    return figures, own


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
        if quick:
            return figures
        with home_with_broker() as other, connect(other, socket_timeout_s=None) as other_client:
            progress("filling a queue with {} messages of {} tenants".format(*LARGE))
            large = DeepQueue(other_client, *LARGE, seed)
            growth = []
            for number in range(rounds):
                before, after = small.measure(picks, seed + number), large.measure(picks, seed + number)
                growth.append(after.p50_us / before.p50_us)
                progress(f"pick {number + 1}: p50 {after.p50_us:.0f} us against {before.p50_us:.0f} us")
    return [*figures, Figure("pick_growth", growth, bar=Bar("<=", 1.5))]


if __name__ == "__main__":
    sys.exit(main())

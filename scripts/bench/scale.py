"""Does the rule hold at a thousand replicas, ten thousand tenants and a million requests, and what does it cost there?

    in_slo_vs_small    share in budget / the same at a hundredth of the size, at the same load and for as long
    us_per_decision    processor time in the rule for each request that was started: its submit, picks and settle
    bytes_per_request  memory of the rule for each request that waits (a pile of them, the request itself not counted)

The size is fixed, so `--slots` and `--requests` mean nothing here; `--mix` gives the proportions of the tenants.
`--quick` takes a tenth of it.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

from scripts.bench.policies.interface import Policy, Request, Wait
from scripts.bench.report import Bar, Figure, Report, progress, run
from scripts.bench.sim.loop import run as simulate
from scripts.bench.sim.pictures import over_size
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import Setting, make, setting
from scripts.bench.sim.tally import by_tier, in_slo
from scripts.bench.sim.work import Work

BARS = {"in_slo_vs_small": Bar(">=", 0.99), "us_per_decision": None, "bytes_per_request": None}
RHO = 1.2
REPLICAS, SLOTS_OF_REPLICA, TENANTS, REQUESTS = 1_000, 8, 10_000, 1_000_000
SMALLER = 100
QUICK = 10
PILE = 50_000
FIFO = "fifo"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("scale", __doc__.split("\n")[0], given, rho=RHO, requests=REQUESTS)
    return run(lambda: measure(chosen))


class Timed:
    """A rule with a clock around it: its own processor time, whatever else this machine does."""

    def __init__(self, rule: Policy) -> None:
        self._rule = rule
        self.spent_ns = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """The rule's own."""
        begin_ns = time.thread_time_ns()
        taken = self._rule.submit(now_ms, request)
        self.spent_ns += time.thread_time_ns() - begin_ns
        return taken

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        """The rule's own."""
        begin_ns = time.thread_time_ns()
        picked = self._rule.pick(now_ms, free_slots)
        self.spent_ns += time.thread_time_ns() - begin_ns
        return picked

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule's own."""
        begin_ns = time.thread_time_ns()
        self._rule.settle(now_ms, request, service_ms)
        self.spent_ns += time.thread_time_ns() - begin_ns


def measure(chosen: Setting) -> Report:
    """All figures of one run; only the measured rule and first come, first served are run."""
    parts = QUICK if chosen.quick else 1
    large = sized(chosen, parts)
    small = sized(chosen, SMALLER)
    readings = Readings()
    points: dict[int, tuple[float, float]] = {}
    for number, seed in enumerate(chosen.seeds, 1):
        work, fewer = mixed(large, chosen.rho, seed), mixed(small, chosen.rho, seed)
        for name in dict.fromkeys((chosen.measured, FIFO)):
            us, share = timed(large, name, work)
            us_small, share_small = timed(small, name, fewer)
            readings.add(
                name,
                in_slo=share,
                in_slo_small=share_small,
                us_per_decision=us,
                bytes_per_request=bytes_per_request(name, work),
            )
            if number == 1 and name == chosen.measured:
                points = {len(fewer.requests): (us_small, share_small), len(work.requests): (us, share)}
        ours = chosen.measured
        readings.add(ours, in_slo_vs_small=readings.of(ours, "in_slo")[-1] / readings.of(ours, "in_slo_small")[-1])
        progress(
            f"scale, round {number} of {chosen.rounds}: {len(work.requests)} requests,"
            f" in budget {readings.of(ours, 'in_slo')[-1]:.4f} against {readings.of(ours, 'in_slo_small')[-1]:.4f},"
            f" {readings.of(ours, 'us_per_decision')[-1]:.1f} us a decision"
        )
    units = {"us_per_decision": "us", "bytes_per_request": "bytes"}
    return Report(
        "scale",
        chosen.seed,
        [Figure(what, readings.of(chosen.measured, what), units.get(what, ""), bar) for what, bar in BARS.items()],
        readings.baselines([FIFO], ["us_per_decision", "bytes_per_request"]) if chosen.measured != FIFO else [],
        tables=[readings.table("in budget", [chosen.measured], ["in_slo", "in_slo_small"])],
        pictures={"size": lambda path: over_size(path, points)},
    )


def timed(chosen: Setting, name: str, work: Work) -> tuple[float, float]:
    """Microseconds of a rule for each request that it started, and the share that it started in budget."""
    rule = Timed(make(name, work.pool))
    outcome = simulate(rule, work.requests, chosen.slots(work.pool))
    started = sum(start >= 0 for start in outcome.started_ms)
    return rule.spent_ns / 1000 / started, in_slo(by_tier(work, outcome))


def bytes_per_request(name: str, work: Work) -> float:
    """Memory that a rule holds for each of many waiting requests."""
    pile = work.requests[:PILE]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        rule = make(name, work.pool)
        for request in pile:
            rule.submit(request.arrival_ms, request)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(pile)


def sized(chosen: Setting, parts: int) -> Setting:
    """The full size divided: slots, tenants and requests, hence a run that lasts as long."""
    scale = replace(chosen.scale, slots=REPLICAS * SLOTS_OF_REPLICA // parts, requests=REQUESTS // parts)
    default = sum(chosen.mix.tenants.values())
    tenants = {tier: max(1, round(count * TENANTS / parts / default)) for tier, count in chosen.mix.tenants.items()}
    return replace(chosen, scale=scale, mix=replace(chosen.mix, tenants=tenants))


if __name__ == "__main__":
    sys.exit(main())

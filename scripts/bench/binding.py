"""What does it save to bind a request to a replica only when a slot is free?

    misses_vs_jsq  requests out of budget with one queue over all slots / with join-the-shortest-queue at arrival and
                   the better of first come first served and earliest deadline first at each replica

The pool is replicas of four slots; the load is .95.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from qosqueue.errors import InvalidField
from scripts.bench.report import Bar, Report, progress, run
from scripts.bench.sim.early import run_early
from scripts.bench.sim.pictures import spreads
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import Setting, make, setting
from scripts.bench.sim.tally import by_tier, in_slo
from scripts.bench.sim.work import Work

BARS = {"misses_vs_jsq": Bar("<=", 0.33)}
RHO = 0.95
SLOTS_OF_REPLICA = 4
AT_REPLICAS = ("fifo", "edf")
MISSES = "share out of budget (jsq: bound to a replica at arrival)"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("binding", __doc__.split("\n")[0], given, rho=RHO)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    if chosen.scale.slots % SLOTS_OF_REPLICA or chosen.scale.slots < 2 * SLOTS_OF_REPLICA:
        raise InvalidField("--slots", f"a multiple of {SLOTS_OF_REPLICA}, at least two", chosen.scale.slots)
    if chosen.server != "slots":
        raise InvalidField("--server", "slots: replicas of the other model choose their own requests", chosen.server)
    readings = Readings()
    early = dict.fromkeys([*AT_REPLICAS, chosen.measured])
    for number, seed in enumerate(chosen.seeds, 1):
        work = mixed(chosen, chosen.rho, seed)
        misses = {name: misses_bound_early(work, name) for name in early}
        for name in early:
            readings.add(f"jsq-{name}", misses=misses[name])
        least = max(min(misses[name] for name in AT_REPLICAS), 1 / len(work.requests))
        for name in chosen.policies:
            late = 1 - in_slo(by_tier(work, chosen.run(name, work)))
            readings.add(name, misses=late, misses_vs_jsq=late / least)
        told = ", ".join(f"{name} {share:.4f}" for name, share in misses.items())
        ours = readings.of(chosen.measured, "misses")[-1]
        progress(f"binding, round {number} of {chosen.rounds}: late {ours:.4f}; at arrival {told}")
    ways = [*chosen.policies, *(f"jsq-{name}" for name in early)]
    missed = {way: readings.of(way, "misses") for way in ways}
    return Report(
        "binding",
        chosen.seed,
        readings.figures(chosen.measured, {**BARS, "misses": None}),
        readings.baselines(ways[1:], ["misses"]),
        tables=[readings.table(f"share out of budget at {chosen.rho:g}", ways, ["misses"])],
        pictures={"misses": lambda path: spreads(path, missed, chosen.measured, MISSES, None)},
    )


def misses_bound_early(work: Work, name: str) -> float:
    """Share out of budget if each request joins the shortest queue and each replica follows the rule."""
    count = work.pool.slots // SLOTS_OF_REPLICA
    rules = [make(name, replace(work.pool, slots=SLOTS_OF_REPLICA)) for _ in range(count)]
    return 1 - in_slo(by_tier(work, run_early(rules, work.requests, SLOTS_OF_REPLICA)))


if __name__ == "__main__":
    sys.exit(main())

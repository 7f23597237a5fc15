"""How much of the work starts in its budget when a fifth more arrives than the pool can do?

in_slo           share of all requests that started in their start budget
vip_in_slo       the same for vip
goodput_vs_fifo  requests started in budget, to first come first served (which counts as having at least one)
oracle_gap       what a clairvoyant could have reached at most, less in_slo (points / 100)

With `--real` the same scene runs on real Celery workers (scripts/bench/real/setting.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qosqueue.policy.terms import TIERS, Tier
from scripts.bench.real.setting import setting
from scripts.bench.report import Bar, Report, progress, run
from scripts.bench.sim.oracle import bound
from scripts.bench.sim.pictures import attainment
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import Setting
from scripts.bench.sim.tally import by_tier, in_slo

RHO = 1.2
BARS = {
    "in_slo": Bar(">=", 0.90),
    "vip_in_slo": Bar(">=", 0.995),
    "goodput_vs_fifo": Bar(">=", 10.0),
    "oracle_gap": Bar("<=", 0.04),
}
SWEEP = tuple(round(0.3 + 0.1 * step, 1) for step in range(13))
FIFO, ORACLE = "fifo", "oracle"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("overload", __doc__.split("\n")[0], given, rho=RHO)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    names = list(dict.fromkeys([*chosen.policies, FIFO]))
    readings = Readings()
    for number, seed in enumerate(chosen.seeds, 1):
        work = mixed(chosen, chosen.rho, seed)
        clairvoyant = bound(work)
        readings.add(ORACLE, in_slo=clairvoyant)
        tiers = {name: by_tier(work, chosen.run(name, work)) for name in names}
        fifo_in_budget = max(1, sum(part.in_budget for part in tiers[FIFO].values()))
        for name, groups in tiers.items():
            in_budget = sum(part.in_budget for part in groups.values())
            readings.add(
                name,
                in_slo=in_slo(groups),
                vip_in_slo=groups[Tier.VIP].in_slo,
                goodput_vs_fifo=in_budget / fifo_in_budget,
                oracle_gap=clairvoyant - in_slo(groups),
                **{str(tier): groups[tier].in_slo for tier in TIERS},
            )
        told = (f"{name} {readings.of(name, 'in_slo')[-1]:.3f}" for name in (*names, ORACLE))
        progress(f"{chosen.bench}, round {number} of {chosen.rounds}: {', '.join(told)}")
    return Report(
        chosen.bench,
        chosen.seed,
        readings.figures(chosen.measured, BARS),
        [*readings.baselines(chosen.rivals, list(BARS)), *readings.baselines([ORACLE], ["in_slo"])],
        tables=[
            readings.table(f"started in budget at {chosen.rho:g}", [*names, ORACLE], [*TIERS, "in_slo"]),
            *chosen.notes,
        ],
        pictures={"attainment": sweep(chosen, names)} if chosen.sweeps else {},
    )


def sweep(chosen: Setting, names: Sequence[str]) -> Callable[[Path], None]:
    """A picture of the share in budget over loads, from one seed."""
    in_budget: dict[str, list[float]] = {name: [] for name in [*names, ORACLE]}
    for load in SWEEP:
        work = mixed(chosen, load, chosen.seed)
        for name in names:
            in_budget[name].append(in_slo(by_tier(work, chosen.run(name, work))))
        in_budget[ORACLE].append(bound(work))
        progress(f"overload, sweep at {load:g}: {in_budget[chosen.measured][-1]:.3f}")
    return lambda path: attainment(path, SWEEP, in_budget, chosen.measured)


if __name__ == "__main__":
    sys.exit(main())

"""How much of the work starts in its budget when a fifth more arrives than the pool can do?

in_slo           share of all requests that started in their start budget
vip_in_slo       the same for vip
goodput_vs_fifo  requests started in budget, to first come first served (which counts as having at least one)
oracle_gap       what a clairvoyant could have reached at most, less in_slo (points / 100)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qosqueue.policy.terms import TIERS, Tier
from scripts.bench.report import Bar, Figure, Report, progress, run
from scripts.bench.sim.oracle import bound
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import Setting, setting
from scripts.bench.sim.tables import table
from scripts.bench.sim.tally import by_tier, in_slo

RHO = 1.2
BARS = {
    "in_slo": Bar(">=", 0.90),
    "vip_in_slo": Bar(">=", 0.995),
    "goodput_vs_fifo": Bar(">=", 10.0),
    "oracle_gap": Bar("<=", 0.04),
}
FIFO = "fifo"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("overload", __doc__.split("\n")[0], given, rho=RHO)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    names = list(dict.fromkeys([*chosen.policies, FIFO]))
    read: dict[str, dict[str, list[float]]] = {name: {what: [] for what in BARS} for name in names}
    rows: dict[str, list[list[float]]] = {name: [] for name in [*names, "oracle"]}
    for number, seed in enumerate(chosen.seeds, 1):
        work = mixed(chosen, chosen.rho, seed)
        tiers = {name: by_tier(work, chosen.run(name, work)) for name in names}
        clairvoyant = bound(work)
        rows["oracle"].append([float("nan")] * len(TIERS) + [clairvoyant])
        fifo_in_budget = max(1, sum(part.in_budget for part in tiers[FIFO].values()))
        for name, groups in tiers.items():
            whole = in_slo(groups)
            read[name]["in_slo"].append(whole)
            read[name]["vip_in_slo"].append(groups[Tier.VIP].in_slo)
            read[name]["goodput_vs_fifo"].append(sum(part.in_budget for part in groups.values()) / fifo_in_budget)
            read[name]["oracle_gap"].append(clairvoyant - whole)
            rows[name].append([*(groups[tier].in_slo for tier in TIERS), whole])
        progress(
            f"overload, round {number} of {chosen.rounds}: "
            + ", ".join(f"{name} {read[name]['in_slo'][-1]:.3f}" for name in names)
            + f", oracle {clairvoyant:.3f}"
        )
    return Report(
        "overload",
        chosen.seed,
        [Figure(what, read[chosen.measured][what], bar=bar) for what, bar in BARS.items()],
        [
            *(
                Figure(f"{name}_{what}", read[name][what])
                for name in chosen.rivals
                for what in ("in_slo", "vip_in_slo")
            ),
            Figure("oracle_in_slo", [row[-1] for row in rows["oracle"]]),
        ],
        tables=[table(f"started in budget at a load of {chosen.rho:g}", [*TIERS, "all"], rows)],
    )


if __name__ == "__main__":
    sys.exit(main())

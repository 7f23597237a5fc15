"""What do the others notice when one tenant sends four times its normal demand?

    vip_p99_ratio          end to end p99 of vip in the flood / of vip alone on the same pool
    vip_wait_p99_services  p99 of vip's wait for a start, in S/K: how many slots of a full pool fall free meanwhile
    quiet_in_slo           share started in budget of the tenants that do not flood, worst tier

The quiet tenants bring .6 of the pool, the flooder .3 before and 1.2 in the flood, which is measured from its
beginning. With `--real` the same scene runs on real Celery workers (scripts/bench/real/setting.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qosqueue.policy.terms import TIERS, Tier
from scripts.bench.real.setting import setting
from scripts.bench.report import Bar, Report, run
from scripts.bench.sim.loop import Outcome
from scripts.bench.sim.pictures import first_starts
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import FLOODER, flooded, only
from scripts.bench.sim.setting import Setting
from scripts.bench.sim.tally import Part, by_tier, parts
from scripts.bench.sim.telling import tell_round, told
from scripts.bench.sim.work import Work

BARS = {
    "vip_p99_ratio": Bar("<=", 1.05),
    "vip_wait_p99_services": Bar("<=", 10.0),
    "quiet_in_slo": Bar(">=", 0.99),
}
PERCENT = 99
FIFO = "fifo"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("flood", __doc__.split("\n")[0], given, rho=0.9)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    readings = Readings()
    waits: dict[str, dict[Tier, list[float]]] = {}
    for number, seed in enumerate(chosen.seeds, 1):
        work = flooded(chosen, seed)
        alone = only(work, Tier.VIP)
        for name in chosen.policies:
            isolated = by_tier(alone, chosen.run(name, alone))[Tier.VIP]
            groups = _groups(work, chosen.run(name, work))
            vip = groups[Tier.VIP]
            if name in (chosen.measured, FIFO):
                waits.setdefault(
                    name,
                    {
                        tier: [wait_ms / work.pool.budgets_ms[tier] for wait_ms in groups[tier].waits_ms]
                        for tier in TIERS
                    },
                )
            readings.add(
                name,
                vip_p99_ratio=vip.end_to_end_ms(PERCENT) / isolated.end_to_end_ms(PERCENT),
                vip_wait_p99_services=vip.wait_ms(PERCENT) * work.pool.slots / work.pool.mean_service_ms,
                quiet_in_slo=min(groups[tier].in_slo for tier in TIERS),
                **{f"{key}": groups[key].in_slo for key in (*TIERS, FLOODER)},
            )
        tell_round(chosen, number, readings, "quiet_in_slo")
    table = readings.table("started in budget, the quiet by tier", chosen.policies, [*TIERS, FLOODER])
    return told(chosen, readings, BARS, table, {"starts": lambda path: first_starts(path, waits)})


def _groups(work: Work, outcome: Outcome) -> dict[str, Part]:
    return parts(work, outcome, lambda request: FLOODER if request.organisation == FLOODER else str(request.tier))


if __name__ == "__main__":
    sys.exit(main())

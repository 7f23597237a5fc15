"""Does each tenant get what it was promised, whatever the others send?

    contract_shortfall          the most that a backlogged tenant's part of the pool fell below its contract in a minute
    jain                        Jain's index of the in-budget shares of ten equal tenants at a load of 1.2
    sharded_flood_quiet_in_slo  share started in budget of the quiet, worst tier, while one organisation floods
                                through ten tenants

Contracts sum to the whole pool, and every tenant sends 1.5 to 4 times its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from qosqueue.policy.terms import TIERS
from scripts.bench.policies.interface import Request
from scripts.bench.report import Bar, Report, run
from scripts.bench.sim.loop import Outcome
from scripts.bench.sim.occupancy import backlogged, slot_ms
from scripts.bench.sim.pictures import shares_over_time
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import FLOODER, contracted, equals, flooded
from scripts.bench.sim.setting import Setting, setting
from scripts.bench.sim.tally import parts
from scripts.bench.sim.telling import tell_round, told
from scripts.bench.sim.work import Work

BARS = {
    "contract_shortfall": Bar("<=", 0.05),
    "jain": Bar(">=", 0.98),
    "sharded_flood_quiet_in_slo": Bar(">=", 0.95),
}
RHO = 1.2
MINUTE_MS = 60_000
SHARDS = 10
FIFO = "fifo"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("fairness", __doc__.split("\n")[0], given, rho=RHO)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    readings = Readings()
    pictured: dict[str, dict[str, list[float]]] = {}
    contracts: Mapping[str, float] = {}
    for number, seed in enumerate(chosen.seeds, 1):
        promised, equal = contracted(chosen, seed), equals(chosen, chosen.rho, seed)
        sharded = flooded(chosen, seed, shards=SHARDS)
        for name in chosen.policies:
            outcome = chosen.run(name, promised)
            if name in (chosen.measured, FIFO) and name not in pictured:
                contracts, pictured[name] = promised.pool.contracts, held(promised, outcome)
            shares = [part.in_slo for part in parts(equal, chosen.run(name, equal), _tenant).values()]
            quiet = parts(sharded, chosen.run(name, sharded), _flooder_or_tier)
            readings.add(
                name,
                contract_shortfall=shortfall(promised, outcome),
                jain=jain(shares),
                sharded_flood_quiet_in_slo=min(quiet[tier].in_slo for tier in TIERS),
            )
        tell_round(chosen, number, readings, "contract_shortfall")
    table = readings.table("fairness", chosen.policies, list(BARS))
    return told(chosen, readings, BARS, table, {"contracts": lambda path: shares_over_time(path, contracts, pictured)})


def held(work: Work, outcome: Outcome) -> dict[str, list[float]]:
    """The part of the pool that each tenant held in each measured minute."""
    whole = work.pool.slots * MINUTE_MS
    rows = slot_ms(outcome, _tenant, from_ms=work.measured_from_ms, to_ms=work.measured_to_ms, every_ms=MINUTE_MS)
    return {tenant: [slot / whole for slot in row] for tenant, row in rows.items()}


def shortfall(work: Work, outcome: Outcome) -> float:
    """The most that a tenant which waited all through a minute fell below its contract in it, in parts of the pool.

    Below 0: every tenant got more than its contract in every minute. 0 if no tenant waited all through any.
    """
    shares = held(work, outcome)
    waited = backlogged(outcome, _tenant, from_ms=work.measured_from_ms, to_ms=work.measured_to_ms, every_ms=MINUTE_MS)
    return max(
        (
            contract - share
            for tenant, contract in work.pool.contracts.items()
            for share, waits in zip(shares[tenant], waited[tenant], strict=True)
            if waits
        ),
        default=0.0,
    )


def jain(shares: Sequence[float]) -> float:
    """Jain's index (DEC-TR-301, 1984): 1 if all are equal, 1/n if one has all; 1 if nobody has any."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _tenant(request: Request) -> str:
    return request.tenant


def _flooder_or_tier(request: Request) -> str:
    return FLOODER if request.organisation == FLOODER else str(request.tier)


if __name__ == "__main__":
    sys.exit(main())

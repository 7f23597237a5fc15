"""Where does a request stand in the order? The key that sorts it, and the few figures of its pool that decide it.

The rule is that of claim-keyed deadlines. A request's key is the instant by which it should start,

    D = arrival + lead · budget + size · cost + penalty

smallest first. `lead` is the part of its start budget that its priority lets it wait; `size` moves large requests back
when there is not time for all (in overload the head of the order is a lag behind, so it becomes a cut by size); and the
penalty moves back the new requests of an organisation whose queued work claims more of the pool than its allowance:
its own, nobody else's, and only while it has a queue. A contracted share is a token bucket: what fits into it is *in
profile* and carries neither size nor penalty. What can no longer start in its budget is relegated behind all that can;
what vip missed stands again, a little later, so that no vip request falls behind everybody for one ms.

Everything here is whole numbers, so that the scripts and their Python twin agree to the last bit: times in ms, costs in
ms of one slot, shares in 1/1024 (`q10`), claims in 1/1024 of a slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qosqueue.policy.terms import PRIORITY_RANGES, TIERS, Tier

Q10, Q20, Q30 = 1 << 10, 1 << 20, 1 << 30

# Messages that reach the server in the same millisecond keep their order: a score is ms · 512 + a running number.
SAME_MS = 1 << 9
# A relegated request of a lower tier stands so much later, and so behind what a higher one sends for that long.
RELEGATED_STEP_MS = 60_000
BELL_DEPTH = 16
"""A bell is a hint, not a count: enough tokens to wake that many idle slots."""

# Beyond these no request is told apart any more; the products below stay under 2^53, exact as doubles.
LONGEST_MS = 1 << 42
LATEST_KEY_MS = (1 << 43) - 1
LARGEST_COST_MS = 1 << 26
SHORTEST_BUDGET_MS = 16
LARGEST_EXCESS = 1 << 26
MOST_SLOTS, LONGEST_BURST_MS, STEEPEST_Q10 = 1 << 16, 1 << 20, 1 << 20

# The part of the start budget that each priority 0-9 may be made to wait, in 1/1024: vip hardly, basic all of it.
LEAD_Q10 = (205, 358, 512, 717, 819, 922, 1024, 922, 973, 1024)
# From this priority on the size of a request counts.
SIZED_FROM = PRIORITY_RANGES[Tier.STANDARD].first
_TIER_INDEX = tuple(
    index
    for index, tier in enumerate(TIERS)
    for _ in range(PRIORITY_RANGES[tier].first, PRIORITY_RANGES[tier].last + 1)
)
# A Celery task without a budget (of beat, of a host project) waits its turn by age, so much later for each priority.
PLAIN_STEP_MS = 10_000

# The part of the pool that an organisation may claim before its new requests lose place, by tier, in 1/1024.
ALLOWANCE_Q10: Mapping[Tier, int] = {Tier.VIP: 2048, Tier.STANDARD: 614, Tier.BASIC: 410}
# So many mean services are never too large a claim.
FREE_SERVICES = 4
# From this size on a pool leaves a slot free of batch; a smaller one would lose too much of its work by it.
SPARE_FROM_SLOTS = 16

FLOOR_Q10 = 10
"""Relegated work is given so much (1/1024) of what is served while it waits: about one percent."""

DUE_PER_PICK = 8
"""Timed moves that one pick makes at most; the watchdog makes the rest."""

PASSED_OVER_PER_PICK = 32
"""Tenants at their limit, and messages past their time to live, that one pick passes over at most."""

LOOK_AGAIN_MS = 1_000
"""When to look again where something waits that may not run: a freed slot rings before."""

LATE_PART = 2
"""A vip request that missed its start budget stands 1/2 of `base_ms` after that instant, if it fits its contract."""

LATE_BATCH = 8
"""Batch that joined the order stands 8 `base_ms` (four basic budgets) after its window: ahead of floods, behind each
fresh online request whose organisation claims less than a whole pool beyond its allowance."""

LEAST_CREDIT_MS = 200
MOST_OWED_SERVICES = 4
"""What relegated work is served on credit owes at most so many mean services: no prediction switches the floor off."""
DEFAULT_COST_MS = 1_000
"""What a request is taken to cost when neither it nor its pool says."""

SHARE_OF_BATCH_WINDOW = 2
"""Batch work fills idle slots for the first 1/2 of its window, then it joins the order of all."""

# The tenant's own bias of prediction, in 1/1024: it moves by 1/64 toward what was seen, between 1/8 and 8.
BIAS_STEP_BITS = 6
LEAST_BIAS, MOST_BIAS = Q10 // 8, Q10 * 8
MEAN_STEP_BITS = 5


@dataclass(frozen=True)
class PoolTerms:
    """What the order knows of one model's pool; all zero where nothing is known of it (no guard, no size, no spare).

    `slots` counts all replicas' slots, `spare` of them batch leaves free; `mean_ms` is the mean service;
    `size_q10` is ms of key for 1024 ms of cost; `slope_q20` is ms of key for 2^20 units of claim too many;
    `base_ms` is added to what does not fit into its contract; `burst_ms` of a contract may be saved up;
    `credit_ms` is the most that relegated work can be owed.
    """

    slots: int = 0
    spare: int = 0
    mean_ms: int = 0
    size_q10: int = 0
    slope_q20: int = 0
    base_ms: int = 0
    burst_ms: int = 0
    credit_ms: int = 0


def pool_terms(slots: int, mean_ms: int, budgets_ms: Mapping[Tier, int]) -> PoolTerms:
    """The terms of a pool of `slots` with `mean_ms` of mean service; `budgets_ms` are the tiers' online start budgets.

    The time scales follow from the budgets: a request of mean size stands 0.3 standard budgets later than an empty one,
    a claim of the whole pool beyond the allowance costs three basic budgets. With 1, 3 and 10 s these are the figures
    under which the rule was found (docs/design/fairness.md).
    """
    if slots < 1:
        return PoolTerms()
    slots, mean_ms = min(slots, MOST_SLOTS), min(max(1, mean_ms), LARGEST_COST_MS)
    standard_ms, longest_ms = budgets_ms[Tier.STANDARD], budgets_ms[Tier.BASIC]
    return PoolTerms(
        slots=slots,
        spare=1 if slots >= SPARE_FROM_SLOTS else 0,
        mean_ms=mean_ms,
        size_q10=min(3 * standard_ms * Q10 // (10 * mean_ms), Q20),
        slope_q20=min(3 * longest_ms * Q10 // slots, 1 << 25),
        base_ms=longest_ms // 2,
        burst_ms=min(longest_ms, LONGEST_BURST_MS),
        credit_ms=200 * slots,
    )


def urgency(budget_ms: int) -> int:
    """One over the start budget, in 2^-30 per ms: what turns a cost into a claim without a division in the scripts."""
    return Q30 // max(SHORTEST_BUDGET_MS, budget_ms)


def claim(cost_ms: int, urgency_q30: int) -> int:
    """The part of a pool, in 1/1024 of a slot, that work of `cost_ms` needs to start within its budget."""
    return cost_ms * urgency_q30 >> 20


def penalty_ms(excess: int, slope_q20: int, steepness_q10: int) -> int:
    """How much later an organisation's next request stands that claims `excess` beyond its allowance (1/1024 slots)."""
    return (min(excess, LARGEST_EXCESS) * slope_q20 >> 20) * steepness_q10 >> 10


def contract_q10(percent: int) -> int:
    """A contracted share of whole percent, in 1/1024 of each pool."""
    return percent * Q10 // 100


def steepness_q10(default_weight: int, weight: int) -> int:
    """How steeply an excess counts, in 1/1024: a tenant of twice its tier's weight loses half the place."""
    return min(max(1, default_weight * Q10 // weight), STEEPEST_Q10)


def key_ms(arrival_ms: int, priority: int, budget_ms: int, cost_ms: int, size_q10: int, penalty: int) -> int:
    """D: the instant, in ms since the epoch, that sorts a request."""
    if budget_ms == 0:
        return min(arrival_ms + PLAIN_STEP_MS * priority, LATEST_KEY_MS)
    size = cost_ms * size_q10 >> 10 if priority >= SIZED_FROM else 0
    return min(arrival_ms + (budget_ms * LEAD_Q10[priority] >> 10) + size + penalty, LATEST_KEY_MS)


def late_key_ms(arrival_ms: int, budget_ms: int, late_ms: int, penalty: int) -> int:
    """D of a vip request that missed its start budget, and of batch that joined the order: so much after its budget."""
    return min(arrival_ms + budget_ms + late_ms + penalty, LATEST_KEY_MS)


def tier_index(priority: int) -> int:
    """0 vip, 1 standard, 2 basic."""
    return _TIER_INDEX[priority]


def next_bias(bias_q10: int, predicted_ms: int, actual_ms: int) -> int:
    """The tenant's bias after one more service: one step up if it took longer than the corrected prediction, else down.

    It settles where as many services take longer as shorter; one huge outlier moves it no further than any other.
    """
    step = bias_q10 >> BIAS_STEP_BITS
    moved = bias_q10 + step if actual_ms << 10 > predicted_ms * bias_q10 else bias_q10 - step
    return min(max(moved, LEAST_BIAS), MOST_BIAS)

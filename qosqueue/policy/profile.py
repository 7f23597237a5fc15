"""What does this request deserve? Four factors in, one scheduling profile out.

Pure: the same facts give the same profile, on any machine, at any time of day.
"""

from __future__ import annotations

from dataclasses import dataclass

from qosqueue.policy.order import LARGEST_COST_MS
from qosqueue.policy.road import attempts_for
from qosqueue.policy.terms import (
    PRIORITY_RANGES,
    LatencyClass,
    ServiceTier,
    TaskType,
    Tier,
    WeightClass,
    lane_name,
    latency_class,
)

DEFAULT_BUDGET_MS: dict[TaskType, dict[Tier, int]] = {
    TaskType.ONLINE: {Tier.VIP: 250, Tier.STANDARD: 500, Tier.BASIC: 1_000},
    TaskType.ASYNC: {Tier.VIP: 2_000, Tier.STANDARD: 5_000, Tier.BASIC: 15_000},
    TaskType.BATCH: {Tier.VIP: 30_000, Tier.STANDARD: 60_000, Tier.BASIC: 120_000},
}

# After this long nobody wants the answer any more: the request leaves the queue as expired, with an answer.
TTL_MS: dict[TaskType, int] = {TaskType.ONLINE: 60_000, TaskType.ASYNC: 3_600_000, TaskType.BATCH: 86_400_000}

# A first guess of what a token costs, in ms of a slot: only proportions matter, since what was seen corrects each
# tenant's guesses (order.next_bias). A prompt is read many tokens at a time.
OUTPUT_TOKEN_MS: dict[WeightClass, int] = {WeightClass.LIGHT: 2, WeightClass.MEDIUM: 10, WeightClass.HEAVY: 30}
PROMPT_TOKENS_FOR_ONE = 16

# Slots of one replica that requests of one profile may hold at once; heavy models get a limited window.
WINDOW: dict[WeightClass, int] = {WeightClass.LIGHT: 8, WeightClass.MEDIUM: 4, WeightClass.HEAVY: 1}

# Flex work that says nothing itself has the budget of what is less urgent by one step.
_LESS_URGENT = {TaskType.ONLINE: TaskType.ASYNC, TaskType.ASYNC: TaskType.BATCH, TaskType.BATCH: TaskType.BATCH}

_LATENCY_STEP = {LatencyClass.HIGH: 0, LatencyClass.MEDIUM: 1, LatencyClass.LOW: 2}
_TASK_STEP = {TaskType.ONLINE: 0, TaskType.ASYNC: 1, TaskType.BATCH: 2}
_WEIGHT_STEP = {WeightClass.LIGHT: 0, WeightClass.MEDIUM: 0, WeightClass.HEAVY: 1}


@dataclass(frozen=True)
class Facts:
    """What is known of a request at the door. Times in ms, lengths in tokens; None: the request did not say."""

    tier: Tier
    weight_class: WeightClass
    task_type: TaskType
    prompt_tokens: int
    max_output_tokens: int
    latency_budget_ms: int | None = None
    tenant_budget_ms: int | None = None
    scenario_budget_ms: int | None = None
    ttl_ms: int | None = None
    success_target_percent: int | None = None
    service_tier: ServiceTier = ServiceTier.DEFAULT


@dataclass(frozen=True)
class Profile:
    """How a request is scheduled. Times in ms from its arrival; cost in tokens, and in ms of a slot."""

    tier: Tier
    weight_class: WeightClass
    latency_class: LatencyClass
    task_type: TaskType
    priority: int
    latency_budget_ms: int
    ttl_ms: int
    cost_tokens: int
    cost_ms: int
    routing_key: str
    window: int
    max_attempts: int
    service_tier: ServiceTier

    @property
    def sheddable(self) -> bool:
        """Whether it is the first to be turned away when there is no capacity."""
        return self.service_tier is ServiceTier.FLEX


def make_profile(facts: Facts) -> Profile:
    """The profile of a request.

    Priority starts at the tier's first and falls, never beyond the tier's last, with looser latency, with work
    that nobody waits for, and with heavy models. Of the service tiers `priority` leaves only the model's step, and
    `flex` stands last in the range. The budget is the request's own, else the tenant's SLA for online work, else what
    the scenario usually takes (policy/scenario.py), else the default of the tier and task type; flex takes the default
    of a less urgent type.
    """
    budget_ms = _budget_ms(facts)
    latency = latency_class(budget_ms)
    return Profile(
        tier=facts.tier,
        weight_class=facts.weight_class,
        latency_class=latency,
        task_type=facts.task_type,
        priority=_priority(facts, latency),
        latency_budget_ms=budget_ms,
        ttl_ms=TTL_MS[facts.task_type] if facts.ttl_ms is None else facts.ttl_ms,
        cost_tokens=facts.prompt_tokens + facts.max_output_tokens,
        cost_ms=_cost_ms(facts),
        routing_key=lane_name(facts.tier, facts.weight_class),
        window=WINDOW[facts.weight_class],
        max_attempts=attempts_for(facts.task_type, facts.success_target_percent),
        service_tier=facts.service_tier,
    )


def _priority(facts: Facts, latency: LatencyClass) -> int:
    allowed = PRIORITY_RANGES[facts.tier]
    if facts.service_tier is ServiceTier.FLEX:
        return allowed.last
    steps = _WEIGHT_STEP[facts.weight_class]
    if facts.service_tier is ServiceTier.DEFAULT:
        steps += max(_LATENCY_STEP[latency], _TASK_STEP[facts.task_type])
    return min(allowed.first + steps, allowed.last)


def _cost_ms(facts: Facts) -> int:
    steps = facts.max_output_tokens + facts.prompt_tokens // PROMPT_TOKENS_FOR_ONE
    return min(max(1, steps * OUTPUT_TOKEN_MS[facts.weight_class]), LARGEST_COST_MS)


def _budget_ms(facts: Facts) -> int:
    if facts.latency_budget_ms is not None:
        return facts.latency_budget_ms
    if facts.service_tier is ServiceTier.FLEX:
        return DEFAULT_BUDGET_MS[_LESS_URGENT[facts.task_type]][facts.tier]
    if facts.task_type is TaskType.ONLINE and facts.tenant_budget_ms is not None:
        return facts.tenant_budget_ms
    if facts.scenario_budget_ms is not None:
        return facts.scenario_budget_ms
    return DEFAULT_BUDGET_MS[facts.task_type][facts.tier]

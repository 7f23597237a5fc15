"""What are the four factors of a request, and what does each value mean?

The words and figures are those of the QoS model (docs/design/overview.md): every limit that separates two
levels stands here once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tier(StrEnum):
    """The tenant's class. It fixes the range that a request's priority may take; 0 is served first."""

    VIP = "vip"
    STANDARD = "standard"
    BASIC = "basic"


class WeightClass(StrEnum):
    """The model's heaviness: decides sharing, prewarming and windows."""

    LIGHT = "light"
    MEDIUM = "medium"
    HEAVY = "heavy"


class LatencyClass(StrEnum):
    """How soon the answer must begin: high at most 100 ms, medium at most 500 ms, low may take a second and more."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class TaskType(StrEnum):
    """Who waits: somebody now, somebody who polls, nobody."""

    ONLINE = "online"
    ASYNC = "async"
    BATCH = "batch"


class OnLate(StrEnum):
    """What is done at the door with a request that would start too late: refuse it, accept it as a job, or take it in a
    lower tier's stead."""

    REJECT = "reject"
    DEFER = "defer"
    DOWNGRADE = "downgrade"


class RoadStep(StrEnum):
    """What is tried when things go wrong: another replica, another model, a shorter answer, later, nothing."""

    RETRY = "retry"
    FALLBACK = "fallback"
    DEGRADE = "degrade"
    DEFER = "defer"
    REJECT = "reject"


class ServiceTier(StrEnum):
    """What a request asks for within its tenant's range: to be ahead, as usual, or behind and the first to be shed."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"


# OpenAI's words for it. `auto` is the tenant's default, which is `default` for every tenant.
SERVICE_TIERS: dict[str, ServiceTier] = {
    "auto": ServiceTier.DEFAULT,
    "default": ServiceTier.DEFAULT,
    "scale": ServiceTier.DEFAULT,
    "priority": ServiceTier.PRIORITY,
    "fast": ServiceTier.PRIORITY,
    "flex": ServiceTier.FLEX,
}


@dataclass(frozen=True)
class PriorityRange:
    """Priorities `first` to `last` (both included) that a tier may take."""

    first: int
    last: int


PRIORITY_RANGES: dict[Tier, PriorityRange] = {
    Tier.VIP: PriorityRange(0, 2),
    Tier.STANDARD: PriorityRange(3, 6),
    Tier.BASIC: PriorityRange(7, 9),
}

TIERS = tuple(Tier)
WEIGHT_CLASSES = tuple(WeightClass)

HIGH_BUDGET_MS = 100
MEDIUM_BUDGET_MS = 500
MAX_BUDGET_MS = 86_400_000


def latency_class(budget_ms: int) -> LatencyClass:
    """Latency class of a budget in milliseconds."""
    if budget_ms <= HIGH_BUDGET_MS:
        return LatencyClass.HIGH
    if budget_ms <= MEDIUM_BUDGET_MS:
        return LatencyClass.MEDIUM
    return LatencyClass.LOW


def lane_name(tier: Tier, weight: WeightClass) -> str:
    """The routing key and Celery queue of a request, e.g. `vip.heavy`."""
    return f"{tier}.{weight}"


LANES = tuple(lane_name(tier, weight) for tier in TIERS for weight in WEIGHT_CLASSES)
SYSTEM_LANE = "system"
# Errands of the service itself that take their time: feeding batches, sending webhooks.
BULK_LANE = "bulk"

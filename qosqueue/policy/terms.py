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

GB = 10**9
LIGHT_BELOW_BYTES = 1 * GB
MEDIUM_UP_TO_BYTES = 6 * GB
LIGHT_BELOW_MS = 10
MEDIUM_UP_TO_MS = 100


def latency_class(budget_ms: int) -> LatencyClass:
    """Latency class of a budget in milliseconds."""
    if budget_ms <= HIGH_BUDGET_MS:
        return LatencyClass.HIGH
    if budget_ms <= MEDIUM_BUDGET_MS:
        return LatencyClass.MEDIUM
    return LatencyClass.LOW


def weight_class(memory_bytes: int, step_ms: int | None = None) -> WeightClass:
    """Weight class of a model from its memory (bytes) and, if it was measured, the time of one forward pass (ms).

    The heavier of the two verdicts counts. Sizes between the named ranges (1–2 GB, 6–10 GB) take the heavier
    class: treating a model as too light lets it ruin its neighbours, the reverse only costs some sharing.
    """
    by_memory = _level(memory_bytes, LIGHT_BELOW_BYTES, MEDIUM_UP_TO_BYTES)
    by_time = 0 if step_ms is None else _level(step_ms, LIGHT_BELOW_MS, MEDIUM_UP_TO_MS)
    return WEIGHT_CLASSES[max(by_memory, by_time)]


def _level(value: int, light_below: int, medium_up_to: int) -> int:
    return 0 if value < light_below else 1 if value <= medium_up_to else 2


def lane_name(tier: Tier, weight: WeightClass) -> str:
    """The routing key and Celery queue of a request, e.g. `vip.heavy`."""
    return f"{tier}.{weight}"


LANES = tuple(lane_name(tier, weight) for tier in TIERS for weight in WEIGHT_CLASSES)
SYSTEM_LANE = "system"

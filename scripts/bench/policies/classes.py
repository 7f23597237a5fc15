"""Into which class does a request fall, for a rule that knows nothing finer, and what does a class weigh?

Each rival system lets its operator name classes (bands, queues, priorities). Here the operator has given each tier its
own, in the order of the tiers, and batch work the one below them all; asynchronous work waits with its tier.
"""

from __future__ import annotations

from qosqueue.policy.terms import TIERS, TaskType, Tier
from scripts.bench.policies.interface import Request

BATCH_CLASS = len(TIERS)
CLASS_COUNT = BATCH_CLASS + 1
_CLASS_OF_TIER = {tier: number for number, tier in enumerate(TIERS)}

# The weights that qosqueue's own installation gives a new tenant of each tier (qosqueue/store/seed.py).
TIER_WEIGHT = {Tier.VIP: 8, Tier.STANDARD: 4, Tier.BASIC: 1}


def class_of(request: Request) -> int:
    """0 for vip, 1 for standard, 2 for basic, 3 for batch work of any tier."""
    return BATCH_CLASS if request.task_type is TaskType.BATCH else _CLASS_OF_TIER[request.tier]

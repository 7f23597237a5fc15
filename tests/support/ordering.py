"""A queue with one pool, requests for it, and picks from it: what tests of the order begin with."""

from __future__ import annotations

from typing import Any

from qosqueue.policy import order
from qosqueue.policy.reference.message import Delivery, Nothing, Place
from qosqueue.policy.reference.queue import ReferenceQueue
from qosqueue.policy.terms import TIERS, Tier
from tests.support.messages import submission

NOW = 1_800_000_000_000
BUDGETS = {Tier.VIP: 1_000, Tier.STANDARD: 3_000, Tier.BASIC: 10_000}
PLACES = [(f"{tier}.light", "m") for tier in TIERS]
VIP, STANDARD, BASIC = 2, 5, 9


def with_pool(slots: int = 4, mean_ms: int = 4_000) -> ReferenceQueue:
    queue = ReferenceQueue()
    queue.pool("m", order.pool_terms(slots, mean_ms, BUDGETS))
    return queue


def request(
    queue: ReferenceQueue, now: int, tag: str, priority: int = BASIC, tenant: str = "a", **changes: Any
) -> None:
    tier = TIERS[order.tier_index(priority)]
    fields: dict[str, Any] = {"priority": priority, "tenant": tenant, "organisation": tenant, "cost_ms": 4_000}
    fields |= {"lane": f"{tier}.light", "budget_ms": BUDGETS[tier]}
    queue.submit(now, **submission(tag, **(fields | changes)))


def picked(queue: ReferenceQueue, now: int, places: list[Place] = PLACES, **how: Any) -> Delivery | Nothing:
    return queue.dispatch(now, lease_ms=10**9, holder="w", places=places, **how)


def tag_of(queue: ReferenceQueue, now: int, places: list[Place] = PLACES, **how: Any) -> str | None:
    found = picked(queue, now, places, **how)
    return found.tag if isinstance(found, Delivery) else None

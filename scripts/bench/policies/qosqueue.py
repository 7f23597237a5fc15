"""qosqueue's own rule: the reference model of the scripts, driven by the simulator.

What the product's parts do around the order is done here by its own functions: the profile gives the priority, and the
pool's terms are computed anew every second from the slots and the running mean, as the watchdog does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, Protocol

from qosqueue.policy.order import Q10, PoolTerms, pool_terms
from qosqueue.policy.profile import Facts, make_profile
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.message import Delivery, Nothing, Place
from qosqueue.policy.reference.queue import ReferenceQueue
from qosqueue.policy.terms import TIERS, TaskType, Tier, WeightClass, lane_name
from scripts.bench.policies.interface import Pool, Request, Wait

TERMS_EVERY_MS = 1_000
LEASE_MS = 3_600_000
LANES = {tier: lane_name(tier, WeightClass.MEDIUM) for tier in TIERS}


class Queue(Protocol):
    """What the rule needs of a queue: the reference, or the scripts at a given time."""

    @property
    def submit(self) -> Callable[..., int]:
        """As the reference's, with the same arguments."""

    def dispatch(self, now: int, *, lease_ms: int, holder: str, places: Sequence[Place]) -> Delivery | Nothing:
        """As the reference's."""

    def settle(self, now: int, *, tag: str, fence: int, outcome: Literal["done"]) -> int:
        """As the reference's."""

    def share(self, organisation: str, share: Share) -> None:
        """As the reference's."""

    def pool(self, model: str, terms: PoolTerms) -> None:
        """As the reference's."""

    def mean_service_ms(self, model: str) -> int:
        """As the reference's."""


class QosqueuePolicy:
    """The order behind the simulator's interface."""

    def __init__(self, pool: Pool, queue: Queue | None = None) -> None:
        self._pool = pool
        self._queue: Queue = queue or ReferenceQueue()
        self._requests: dict[str, Request] = {}
        self._fences: dict[int, int] = {}
        self._terms_due_ms = 0
        self._models: set[str] = set()
        self._all_places: list[Place] = []
        for tenant, share in pool.contracts.items():
            self._queue.share(tenant, Share(contract_q10=round(share * Q10)))

    def submit(self, now_ms: int, request: Request) -> bool:
        """As the interface says; nothing is rejected here: that is admission's part."""
        self._renew_terms(now_ms, request.model)
        tag = f"{request.id:09d}"
        self._requests[tag] = request
        self._queue.submit(
            now_ms,
            tag=tag,
            task=tag,
            lane=LANES[request.tier],
            model=request.model,
            tenant=request.tenant,
            organisation=request.organisation,
            priority=priority_of(request),
            batch=request.task_type is TaskType.BATCH,
            budget_ms=request.budget_ms,
            cost_ms=max(1, request.predicted_ms),
            delay_ms=0,
            ttl_ms=0,
            max_attempts=1,
            payload="",
        )
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        """As the interface says."""
        picked = self._queue.dispatch(now_ms, lease_ms=LEASE_MS, holder="pool", places=self._all_places)
        if not isinstance(picked, Delivery):
            return None if picked.retry_after_ms is None else Wait(picked.retry_after_ms)
        request = self._requests[picked.tag]
        self._fences[request.id] = picked.fence
        return request

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """As the interface says."""
        tag = f"{request.id:09d}"
        del self._requests[tag]
        self._queue.settle(now_ms, tag=tag, fence=self._fences.pop(request.id), outcome="done")

    def _renew_terms(self, now_ms: int, model: str) -> None:
        if now_ms < self._terms_due_ms and model in self._models:
            return
        if model not in self._models:
            self._models.add(model)
            self._all_places += [(lane, model) for lane in LANES.values()]
        self._terms_due_ms = now_ms + TERMS_EVERY_MS
        for each in sorted(self._models):
            mean_ms = self._queue.mean_service_ms(each) or self._pool.mean_service_ms
            self._queue.pool(each, pool_terms(self._pool.slots, mean_ms, self._pool.budgets_ms))


def priority_of(request: Request) -> int:
    """The priority that the profile gives to such a request."""
    return _priority(request.tier, request.task_type, request.budget_ms)


@lru_cache(maxsize=256)  # a run has few kinds of requests, and asks a million times
def _priority(tier: Tier, task_type: TaskType, budget_ms: int) -> int:
    facts = Facts(
        tier=tier,
        weight_class=WeightClass.MEDIUM,
        task_type=task_type,
        prompt_tokens=0,
        max_output_tokens=0,
        latency_budget_ms=budget_ms,
    )
    return make_profile(facts).priority

"""What do the claim-keyed deadlines of the design notes do? A prototype of the rule for research only."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from qosqueue.policy.terms import TIERS, TaskType, Tier
from scripts.bench.policies.interface import Pool, Request, Wait


@dataclass(frozen=True)
class Parameters:
    """Of the rule; times in ms, `a` in ms of deadline per ms of predicted service, by tier where it is a tuple."""

    b0: tuple[float, float, float] = (0.0, 3_000.0, 10_000.0)
    late: tuple[float, float, float] = (2.0, 1.0, 1.0)
    a: tuple[float, float, float] = (0.0, 0.9, 0.9)
    phi: tuple[float, float, float] = (0.5, 0.6, 0.4)
    beta: float = 3.0
    r: float = 0.01
    h: int = 1
    w: int = 8
    tier_guard: bool = False


class W1:
    """Score D at arrival; eager relegation at expiry; a small share of picks for relegated work; batch behind h."""

    def __init__(self, pool: Pool, parameters: Parameters | None = None) -> None:
        self.parameters = parameters or Parameters()
        self.pool = pool
        self.budgets = [pool.budgets_ms[tier] for tier in TIERS]
        self.live: list[tuple[float, int, Request]] = []
        self.expiry: list[tuple[float, int, Request]] = []
        self.relegated: tuple[deque[Request], ...] = (deque(), deque(), deque())
        self.batch: deque[Request] = deque()
        self.alive: set[int] = set()
        self.queued: dict[str, int] = {}
        self.tier_queued = [0, 0, 0]
        self.credit = 0.0
        self.index = {tier: number for number, tier in enumerate(TIERS)}

    def submit(self, now_ms: int, request: Request) -> bool:
        """Never rejects."""
        if request.task_type is TaskType.BATCH:
            self.batch.append(request)
            return True
        given = self.parameters
        tier = self.index[request.tier]
        slots, mean = self.pool.slots, self.pool.mean_service_ms
        budget, largest = self.budgets[tier], self.budgets[-1]
        phi = self.pool.contracts.get(request.tenant, given.phi[tier])
        theta = max(phi * budget, 4 * mean / slots)
        queued = self.queued.get(request.tenant, 0)
        score = request.arrival_ms + given.b0[tier] + given.a[tier] * request.predicted_ms
        score += given.beta * largest / budget * max(0.0, queued / slots - theta)
        if given.tier_guard and request.tier is Tier.BASIC:
            score += max(0.0, self.tier_queued[tier] / slots - 0.6 * largest)
        self.alive.add(request.id)
        heapq.heappush(self.live, (score, request.id, request))
        heapq.heappush(self.expiry, (request.arrival_ms + given.late[tier] * budget, request.id, request))
        self.queued[request.tenant] = queued + request.predicted_ms
        self.tier_queued[tier] += request.predicted_ms
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        """Relegated work if it has credit, else the smallest score, else relegated by tier, else batch."""
        given, live = self.parameters, self.live
        self._relegate(now_ms)
        oldest = min((queue for queue in self.relegated if queue), key=lambda queue: queue[0].arrival_ms, default=None)
        if oldest is not None and self.credit > 0:
            request = oldest.popleft()
            self.credit -= request.predicted_ms
            return request
        while live:
            _, _, request = heapq.heappop(live)
            if request.id not in self.alive:
                continue
            self._forget(request)
            if oldest is not None:
                limit = 0.2 * self.pool.slots * 1000
                self.credit = min(self.credit + given.r * request.predicted_ms, limit)
            return request
        for queue in self.relegated:
            if queue:
                return queue.popleft()
        if self.batch and free_slots > given.h:
            return self.batch.popleft()
        return None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """Learns nothing."""

    def _relegate(self, now_ms: int) -> None:
        for _ in range(self.parameters.w):
            if not self.expiry or self.expiry[0][0] > now_ms:
                return
            _, _, request = heapq.heappop(self.expiry)
            if request.id in self.alive:
                self._forget(request)
                self.relegated[self.index[request.tier]].append(request)

    def _forget(self, request: Request) -> None:
        self.alive.discard(request.id)
        left = self.queued[request.tenant] - request.predicted_ms
        if left:
            self.queued[request.tenant] = left
        else:
            del self.queued[request.tenant]
        self.tier_queued[self.index[request.tier]] -= request.predicted_ms


def w2(pool: Pool) -> W1:
    """The rule that also moves basic back when its whole tier claims more than six tenths of the pool."""
    return W1(pool, Parameters(tier_guard=True))

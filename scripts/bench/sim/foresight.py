"""What risk does the order see for each request as it arrives, and does it come true?

The rule is qosqueue's own; beside it the risk of each request is told, once, from what the order knows as the request
joins: its key, the first key and the number of each tier's live row, and the pool's terms. Each outcome teaches the
weights as soon as it is known: a start within the budget, or the end of the budget without one.
"""

from __future__ import annotations

from heapq import heappop, heappush

from qosqueue.policy import order
from qosqueue.policy.reference.message import Stand
from qosqueue.policy.reference.queue import ReferenceQueue
from qosqueue.policy.risk import Line, Signs, Weights, ahead_ms, fresh_key_ms, learned, risk, signs
from qosqueue.policy.terms import PRIORITY_RANGES, TIERS, Tier, WeightClass, lane_name
from scripts.bench.policies.interface import Pool, Request, Wait
from scripts.bench.policies.qosqueue import QosqueuePolicy


class Foresight:
    """The order, with the risk and the naive guess of each request by its id."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._queue = ReferenceQueue()
        self._order = QosqueuePolicy(pool, self._queue)
        self._weights = Weights()
        self._open: dict[int, Signs] = {}
        self._start_by: list[tuple[int, int]] = []
        self._last_wait_ms: dict[Tier, int] = dict.fromkeys(TIERS, 0)
        self.risks: dict[int, float] = {}
        self.naive: dict[int, float] = {}
        """How long the last request of the tier waited that was started, in start budgets."""

    def submit(self, now_ms: int, request: Request) -> bool:
        """As the interface says."""
        self._learn_late(now_ms)
        lines = self._lines(now_ms, request.model)
        self._order.submit(now_ms, request)
        terms = self._queue.standing.terms(request.model)
        key_ms = self._queue.messages[f"{request.id:09d}"].score // order.SAME_MS
        start_by_ms = now_ms + request.budget_ms
        longest_ms = max(self._pool.budgets_ms.values())
        ahead = ahead_ms(key_ms, lines, terms.mean_ms)
        seen = signs(now_ms, key_ms, start_by_ms, ahead, terms.slots, longest_ms)
        self.risks[request.id] = risk(seen, self._weights)
        self.naive[request.id] = self._last_wait_ms[request.tier] / request.budget_ms
        self._open[request.id] = seen
        heappush(self._start_by, (start_by_ms, request.id))
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        """As the interface says."""
        self._learn_late(now_ms)
        picked = self._order.pick(now_ms, free_slots)
        if isinstance(picked, Request):
            self._last_wait_ms[picked.tier] = now_ms - picked.arrival_ms
            seen = self._open.pop(picked.id, None)
            if seen is not None:
                self._weights = learned(self._weights, seen, late=False)
        return picked

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """As the interface says."""
        self._order.settle(now_ms, request, service_ms)

    def _learn_late(self, now_ms: int) -> None:
        while self._start_by and self._start_by[0][0] < now_ms:
            seen = self._open.pop(heappop(self._start_by)[1], None)
            if seen is not None:
                self._weights = learned(self._weights, seen, late=True)

    def _lines(self, now_ms: int, model: str) -> list[Line]:
        standing = self._queue.standing
        lines = []
        for tier in TIERS:
            row = (Stand.LIVE, lane_name(tier, WeightClass.MEDIUM), model)
            head = standing.rows.head(row)
            if head is not None:
                budget_ms = self._pool.budgets_ms[tier]
                fresh_ms = fresh_key_ms(now_ms, PRIORITY_RANGES[tier].last, budget_ms, standing.terms(model))
                lines.append(Line(standing.rows.depth[row], head[0] // order.SAME_MS, fresh_ms))
        return lines

"""What does vLLM's priority scheduling do in front of its slots?

`--scheduling-policy priority` (vLLM 0.11, vllm/v1/core/sched/request_queue.py, PriorityRequestQueue): the waiting
requests are a heap by (priority, arrival time), the lower number first. vLLM also preempts running requests of a
lower priority when its KV cache is full; a slot here is never taken back, and its KV cache never fills.
Priorities as an operator would give them: 0, 1, 2 for the tiers, 3 for batch work.
"""

from __future__ import annotations

from heapq import heappop, heappush

from scripts.bench.policies.classes import class_of
from scripts.bench.policies.interface import Pool, Request


class VllmPriority:
    """One heap by (priority, arrival)."""

    def __init__(self, pool: Pool) -> None:
        self._waiting: list[tuple[int, int, int, Request]] = []
        self._submitted = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted."""
        heappush(self._waiting, (class_of(request), request.arrival_ms, self._submitted, request))
        self._submitted += 1
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The oldest request of the best priority."""
        return heappop(self._waiting)[3] if self._waiting else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

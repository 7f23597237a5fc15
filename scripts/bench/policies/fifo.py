"""First come, first served."""

from __future__ import annotations

from collections import deque

from scripts.bench.policies.interface import Pool, Request


class Fifo:
    """One queue for all."""

    def __init__(self, pool: Pool) -> None:
        self._queue: deque[Request] = deque()

    def submit(self, now_ms: int, request: Request) -> bool:
        """Never rejects."""
        self._queue.append(request)
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The oldest."""
        return self._queue.popleft() if self._queue else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """Learns nothing."""

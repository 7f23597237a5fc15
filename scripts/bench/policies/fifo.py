"""What does first come, first served do?

Stock Celery on Kombu's Redis transport with one queue and prefetch 1: LPUSH and BRPOP on one list (Celery 5.7,
kombu/transport/redis.py). No classes: batch work stands in the same line.
"""

from __future__ import annotations

from collections import deque

from scripts.bench.policies.interface import Pool, Request


class Fifo:
    """One line."""

    def __init__(self, pool: Pool) -> None:
        self._waiting: deque[Request] = deque()

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted, at the end of the line."""
        self._waiting.append(request)
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The head of the line."""
        return self._waiting.popleft() if self._waiting else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

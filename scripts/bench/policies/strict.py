"""What does strict priority of the tiers do, first come, first served inside?

Celery with priorities on Kombu's Redis transport: one list for each priority step, and BRPOP over them in order, so a
lower list is read only while all higher ones are empty (Celery 5.7, "Redis message priorities" in its routing guide;
kombu/transport/redis.py). Batch work has the last priority.
"""

from __future__ import annotations

from collections import deque

from scripts.bench.policies.classes import CLASS_COUNT, class_of
from scripts.bench.policies.interface import Pool, Request


class Strict:
    """One line for each class, the higher always first."""

    def __init__(self, pool: Pool) -> None:
        self._lines: tuple[deque[Request], ...] = tuple(deque() for _ in range(CLASS_COUNT))

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted, at the end of the line of its class."""
        self._lines[class_of(request)].append(request)
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The head of the highest line that is not empty."""
        for line in self._lines:
            if line:
                return line.popleft()
        return None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

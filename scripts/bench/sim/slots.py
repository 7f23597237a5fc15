"""How long does a request hold a slot, if slots are equal and do not disturb each other? Its service time, fixed."""

from __future__ import annotations

import heapq

from scripts.bench.policies.interface import Request
from scripts.bench.sim.loop import NEVER


class Slots:
    """`count` equal slots."""

    def __init__(self, count: int) -> None:
        self.free = count
        self.next_end_ms = NEVER
        self._running: list[tuple[int, int, Request]] = []

    def start(self, now_ms: int, request: Request) -> None:
        """Give the request a slot for its service time."""
        self.free -= 1
        heapq.heappush(self._running, (now_ms + request.service_ms, request.id, request))
        self.next_end_ms = self._running[0][0]

    def ended(self, now_ms: int) -> list[Request]:
        """What has ended by now."""
        running = self._running
        over = []
        while running and running[0][0] <= now_ms:
            over.append(heapq.heappop(running)[2])
        self.free += len(over)
        self.next_end_ms = running[0][0] if running else NEVER
        return over

"""What does earliest deadline first do, with the deadline for the start?

Liu and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment", JACM 20(1), 1973; the
deadline of a request is its arrival plus its start budget. Batch work has a deadline like any other, the end of its
window, so it goes last until that end is near. Late work keeps its place: plain EDF gives nothing up.
"""

from __future__ import annotations

from heapq import heappop, heappush

from scripts.bench.policies.interface import Pool, Request


class Edf:
    """One heap by deadline; ties in the order of arrival."""

    def __init__(self, pool: Pool) -> None:
        self._waiting: list[tuple[int, int, Request]] = []
        self._submitted = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted."""
        heappush(self._waiting, (request.arrival_ms + request.budget_ms, self._submitted, request))
        self._submitted += 1
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The request whose deadline comes first, also if it has passed."""
        return heappop(self._waiting)[2] if self._waiting else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

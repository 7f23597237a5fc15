"""How does Python keep what Redis keeps in a sorted set? Members by score, the first at hand in O(log n)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator


class OrderedSet:
    """Members with integer scores; equal scores are ordered by member, as Redis does."""

    __slots__ = ("_heap", "_scores")

    def __init__(self) -> None:
        self._scores: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, member: str) -> bool:
        return member in self._scores

    def items(self) -> Iterator[tuple[str, int]]:
        """Every member with its score, in no order."""
        return iter(self._scores.items())

    def add(self, member: str, score: int) -> None:
        """Put a member in, or move it."""
        if self._scores.get(member) == score:
            return
        self._scores[member] = score
        # What was moved or removed stays in the heap until it comes up; no more than that it may take.
        if len(self._heap) > 64 + 2 * len(self._scores):
            self._heap = [(each_score, each) for each, each_score in self._scores.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (score, member))

    def remove(self, member: str) -> None:
        """Take a member out, if it is in."""
        self._scores.pop(member, None)

    def first(self) -> tuple[int, str] | None:
        """(score, member) of the first, or None."""
        while self._heap:
            score, member = self._heap[0]
            if self._scores.get(member) == score:
                return score, member
            heapq.heappop(self._heap)
        return None

    def top(self) -> tuple[int, str]:
        """(score, member) of the first; raises IndexError if there is none."""
        first = self.first()
        if first is None:
            raise IndexError("the set is empty")
        return first

    def up_to(self, score: int, limit: int) -> list[str]:
        """The first `limit` members whose score is at most `score`, in order; they stay in the set."""
        found: list[tuple[int, str]] = []
        while len(found) < limit and (first := self.first()) is not None and first[0] <= score:
            found.append(heapq.heappop(self._heap))
            # A copy of the same entry may lie below.
            while self._heap and self._heap[0] == found[-1]:
                heapq.heappop(self._heap)
        for each in found:
            heapq.heappush(self._heap, each)
        return [member for _, member in found]

"""How long does a request hold a slot if the slots of a replica are one continuous batch?

All sequences of a replica advance together, a token a step; a step takes longer the more sequences it has, and reading
a prompt delays all of them (Orca, OSDI'22; the cost model of Vidur, MLSys'24, with its linear terms only). Nothing is
stepped: between two changes of a batch the pace is constant, so each change costs O(log n).

The unit is the request's own `service_ms`, what it takes of a slot in a full batch: a load of 1 saturates this model
exactly as it saturates fixed slots, and a batch that is not full is faster.
"""

from __future__ import annotations

import heapq
import math

from scripts.bench.policies.interface import Pool, Request
from scripts.bench.sim.loop import NEVER
from scripts.bench.sim.work import PROMPT_TOKEN_COST

SLOTS_OF_REPLICA = 16
BASE_PART = 0.7  # of a full batch's step: what a step of one sequence costs too (weights are read once a step)


class _Replica:
    """One batch: `progress` is decoding done since the beginning, in ms of a full batch."""

    __slots__ = ("at_ms", "pause_ms", "progress", "running", "slots", "version")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.progress = 0.0
        self.at_ms = 0.0
        self.pause_ms = 0.0
        self.version = 0
        self.running: list[tuple[float, int, Request]] = []

    @property
    def pace(self) -> float:
        """Real ms for 1 ms of progress."""
        return BASE_PART + (1 - BASE_PART) * len(self.running) / self.slots

    def advance(self, now_ms: float) -> None:
        """Bring progress up to now: prompts first, then decoding."""
        passed = now_ms - self.at_ms
        paused = min(passed, self.pause_ms)
        self.pause_ms -= paused
        self.progress += (passed - paused) / self.pace
        self.at_ms = now_ms

    def next_end_ms(self) -> int:
        """When the next sequence ends, if the batch stays as it is."""
        if not self.running:
            return NEVER
        left = max(0.0, self.running[0][0] - self.progress)
        return math.ceil(self.at_ms + self.pause_ms + left * self.pace - 1e-6)


class Replicas:
    """Replicas of a few slots each; a request goes to the one with the most free slots."""

    def __init__(self, slots: list[int]) -> None:
        self.free = sum(slots)
        self.next_end_ms = NEVER
        self._replicas = [_Replica(count) for count in slots]
        self._by_free: list[dict[int, None]] = [{} for _ in range(max(slots) + 1)]
        for index, count in enumerate(slots):
            self._by_free[count][index] = None
        self._ends: list[tuple[int, int, int]] = []  # (when, replica, its version then)

    @classmethod
    def of(cls, pool: Pool) -> Replicas:
        """As many replicas of 16 slots as the pool has, the last one with what remains."""
        full, rest = divmod(pool.slots, SLOTS_OF_REPLICA)
        return cls([SLOTS_OF_REPLICA] * full + [rest] * bool(rest))

    def start(self, now_ms: int, request: Request) -> None:
        """The request joins a batch: its prompt delays that batch, then it decodes with it."""
        index = next(iter(next(group for group in reversed(self._by_free) if group)))
        replica = self._replicas[index]
        replica.advance(now_ms)
        prompt_part = PROMPT_TOKEN_COST * request.prompt_tokens
        prompt_ms = request.service_ms * prompt_part / (prompt_part + request.output_tokens)
        replica.pause_ms += prompt_ms / replica.slots
        heapq.heappush(replica.running, (replica.progress + request.service_ms - prompt_ms, request.id, request))
        self._move(index, replica, -1)

    def ended(self, now_ms: int) -> list[Request]:
        """What has ended by now."""
        over: list[Request] = []
        while self._ends and self._ends[0][0] <= now_ms:
            _, index, version = heapq.heappop(self._ends)
            replica = self._replicas[index]
            if replica.version != version:
                continue
            replica.advance(now_ms)
            before = len(over)
            while replica.running and replica.running[0][0] <= replica.progress + 1e-6:
                over.append(heapq.heappop(replica.running)[2])
            self._move(index, replica, len(over) - before)
        self._skip_stale()
        return over

    def _move(self, index: int, replica: _Replica, freed: int) -> None:
        """A replica's batch has changed: so have its free slots and its next end."""
        free = replica.slots - len(replica.running)
        self._by_free[free - freed].pop(index)
        self._by_free[free][index] = None
        self.free += freed
        replica.version += 1
        when_ms = replica.next_end_ms()
        if when_ms != NEVER:
            heapq.heappush(self._ends, (when_ms, index, replica.version))
        self._skip_stale()

    def _skip_stale(self) -> None:
        ends, replicas = self._ends, self._replicas
        while ends and replicas[ends[0][1]].version != ends[0][2]:
            heapq.heappop(ends)
        self.next_end_ms = ends[0][0] if ends else NEVER

"""What does the queue of NVIDIA Dynamo's router do?

ai-dynamo/dynamo 1.3 to 1.5 (lib/kv-router/src/scheduling/policy_queue.rs and policy.rs, and "Deficit Round Robin Queue
Scheduling" in its documentation): deficit round robin over policy classes, weighted shortest processing time (Smith's
rule) inside.

- The cost of a request is its uncached prompt tokens, at least 1 (`scheduling_cost`); no prompt is cached here.
- A pick visits the classes from the one after the last served. A class may spend what its deficit holds; a visit adds
  its quantum once. If none can pay, all get the fewest whole rounds that let one pay. What is left over lets the same
  class go on first next time; an empty class loses its deficit.
- Inside: the highest (1 + priority_jump) / cost, ties by arrival. `priority_jump` and `strict_priority` are 0 unless a
  client sends them.
- Queue limits are off by default.

Classes and quanta are the operator's (there is no default): here one for each tier in the ratio of the tiers' weights,
and for batch work the smallest, 1/16 of basic's. The router's own busy threshold is the pool's slots.
"""

from __future__ import annotations

from heapq import heappop, heappush

from qosqueue.policy.terms import TIERS
from scripts.bench.policies.classes import CLASS_COUNT, TIER_WEIGHT, class_of
from scripts.bench.policies.interface import Pool, Request

BATCH_QUANTUM_TOKENS = 64
BASIC_QUANTUM_TOKENS = 1024
QUANTUM_TOKENS = (*(BASIC_QUANTUM_TOKENS * TIER_WEIGHT[tier] for tier in TIERS), BATCH_QUANTUM_TOKENS)


class DynamoDrr:
    """A heap by cost for each class, and the deficits between them."""

    def __init__(self, pool: Pool) -> None:
        # Without priority jumps the highest 1 / cost is the lowest cost.
        self._waiting: tuple[list[tuple[int, int, Request]], ...] = tuple([] for _ in range(CLASS_COUNT))
        self._deficit = [0] * CLASS_COUNT
        self._next_class = 0
        self._carried: int | None = None
        self._submitted = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted."""
        heappush(self._waiting[class_of(request)], (max(1, request.prompt_tokens), self._submitted, request))
        self._submitted += 1
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The cheapest request of the class whose turn it is."""
        carried, self._carried = self._carried, None
        if carried is not None and self._can_pay(carried):
            return self._pop(carried)
        ring = [(self._next_class + step) % CLASS_COUNT for step in range(CLASS_COUNT)]
        backlogged = [number for number in ring if self._waiting[number]]
        if not backlogged:
            return None
        for number in backlogged:
            if not self._can_pay(number):
                self._deficit[number] += QUANTUM_TOKENS[number]
            if self._can_pay(number):
                return self._pop(number)
        rounds = min(
            -((self._deficit[number] - self._waiting[number][0][0]) // QUANTUM_TOKENS[number]) for number in backlogged
        )
        for number in backlogged:
            self._deficit[number] += rounds * QUANTUM_TOKENS[number]
        return self._pop(next(number for number in backlogged if self._can_pay(number)))

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

    def _can_pay(self, number: int) -> bool:
        waiting = self._waiting[number]
        return bool(waiting) and waiting[0][0] <= self._deficit[number]

    def _pop(self, number: int) -> Request:
        cost, _, request = heappop(self._waiting[number])
        self._next_class = (number + 1) % CLASS_COUNT
        if self._waiting[number]:
            self._deficit[number] -= cost
            self._carried = number if self._deficit[number] > 0 else None
        else:
            self._deficit[number] = 0
        return request

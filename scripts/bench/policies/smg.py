"""What does the priority scheduler of the SGLang Model Gateway do?

smg 1.9 (model_gateway/src/middleware/scheduler: class.rs, config.rs, slots.rs, engine.rs): four classes with reserved
slots, a first come, first served queue for each with a depth and a timeout, and a promotion of what starves.

- A class may take a free slot unless higher classes have reserved it and not used it (slots_available_to).
- On a free slot: first, from bulk up to interactive, a head older than its class's starvation threshold, which may
  take reserved slots too; then the classes from the highest down (wake_next_waiter).
- A full queue rejects; what waits longer than its timeout is given up.
- Reserved is max(floor, share of the pool). The gateway refuses to start if they exceed the pool, as its floors for
  large fleets do below 160 slots; then the operator of a small pool keeps the shares and drops the floors.
- A class that may preempt cancels a lower request that has not streamed yet; a slot here is never taken back.

Classes as an operator with three tiers and batch work would give them (each tenant's `max_class`), all four in order:
vip system, standard interactive, basic default, batch work bulk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil

from scripts.bench.policies.classes import CLASS_COUNT, class_of
from scripts.bench.policies.interface import Pool, Request, Wait


@dataclass(frozen=True)
class ClassLimits:
    """What one class may do."""

    reserved_floor: int
    reserved_share: float
    depth: int
    timeout_ms: int
    starves_after_ms: int | None  # None: never promoted


SYSTEM = ClassLimits(32, 0.0, 64, 30_000, None)
INTERACTIVE = ClassLimits(128, 0.25, 256, 30_000, 5_000)
DEFAULT = ClassLimits(0, 0.10, 512, 60_000, 30_000)
BULK = ClassLimits(0, 0.0, 1_024, 300_000, 120_000)
DEFAULT_LIMITS = (SYSTEM, INTERACTIVE, DEFAULT, BULK)


class Smg:
    """Four lines and the slots that are kept for the higher of them."""

    def __init__(self, pool: Pool, limits: tuple[ClassLimits, ...] = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._slots = pool.slots
        self._reserved = _reserved(limits, pool.slots)
        self._running = [0] * CLASS_COUNT
        self._lines: tuple[deque[tuple[int, Request]], ...] = tuple(deque() for _ in range(CLASS_COUNT))

    def submit(self, now_ms: int, request: Request) -> bool:
        """Rejected when its class's queue is full and no slot is free for it."""
        number = class_of(request)
        self._give_up_late(now_ms, number)
        line = self._lines[number]
        free_slots = max(0, self._slots - sum(self._running))
        # A request that a slot is free for never enters the queue of the gateway.
        if len(line) >= self._limits[number].depth + self._available(number, free_slots):
            return False
        line.append((now_ms, request))
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        """A starving head, else the highest class that may take the slot; Wait while only reserved slots are free."""
        for number in range(CLASS_COUNT):
            self._give_up_late(now_ms, number)
        waiting = [number for number in range(CLASS_COUNT) if self._lines[number]]
        if not waiting:
            return None
        for number in reversed(waiting):
            starves_after_ms = self._limits[number].starves_after_ms
            if starves_after_ms is not None and now_ms - self._lines[number][0][0] > starves_after_ms:
                return self._start(number)
        for number in waiting:
            if self._available(number, free_slots) > 0:
                return self._start(number)
        return Wait(max(1, min(self._next_change_ms(number) for number in waiting) - now_ms))

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """A slot of its class is free."""
        self._running[class_of(request)] -= 1

    def _start(self, number: int) -> Request:
        self._running[number] += 1
        return self._lines[number].popleft()[1]

    def _available(self, number: int, free_slots: int) -> int:
        kept = sum(max(0, self._reserved[higher] - self._running[higher]) for higher in range(number))
        return max(0, free_slots - kept)

    def _next_change_ms(self, number: int) -> int:
        """When the head of a class starves, or is given up."""
        limits, queued_ms = self._limits[number], self._lines[number][0][0]
        if limits.starves_after_ms is not None and limits.starves_after_ms < limits.timeout_ms:
            return queued_ms + limits.starves_after_ms + 1
        return queued_ms + limits.timeout_ms

    def _give_up_late(self, now_ms: int, number: int) -> None:
        line, timeout_ms = self._lines[number], self._limits[number].timeout_ms
        while line and now_ms - line[0][0] >= timeout_ms:
            line.popleft()


def _reserved(limits: tuple[ClassLimits, ...], slots: int) -> list[int]:
    shares = [ceil(each.reserved_share * slots) for each in limits]
    wanted = [max(each.reserved_floor, share) for each, share in zip(limits, shares, strict=True)]
    return wanted if sum(wanted) <= slots else shares

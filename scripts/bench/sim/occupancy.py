"""Who held how much of the pool in each span of time, and who waited all through it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TypeVar

from scripts.bench.policies.interface import Request
from scripts.bench.sim.loop import NOT_STARTED, Outcome

Key = TypeVar("Key", bound=Hashable)


def slot_ms(
    outcome: Outcome, key: Callable[[Request], Key], *, from_ms: int, to_ms: int, every_ms: int
) -> dict[Key, list[float]]:
    """Slot-milliseconds that each group held in each span of `every_ms` between two instants."""
    count = (to_ms - from_ms) // every_ms
    held: dict[Key, list[float]] = {}
    for request in outcome.requests:
        start = outcome.started_ms[request.id]
        row = held.setdefault(key(request), [0.0] * count)
        if start == NOT_STARTED:
            continue
        end = min(outcome.ended_ms[request.id], from_ms + count * every_ms)
        at = max(start, from_ms)
        while at < end:
            span = (at - from_ms) // every_ms
            until = min(end, from_ms + (span + 1) * every_ms)
            row[span] += until - at
            at = until
    return held


def backlogged(
    outcome: Outcome, key: Callable[[Request], Key], *, from_ms: int, to_ms: int, every_ms: int
) -> dict[Key, list[bool]]:
    """For each group and span: whether at least one of its requests waited at every instant.

    What was rejected or never started waits for ever: its tenant wanted more than it got.
    """
    count = (to_ms - from_ms) // every_ms
    changes: dict[Key, list[tuple[int, int]]] = {}
    for request in outcome.requests:
        row = changes.setdefault(key(request), [])
        row.append((request.arrival_ms, 1))
        if outcome.started_ms[request.id] != NOT_STARTED:
            row.append((outcome.started_ms[request.id], -1))
    waited = {}
    for group, row in changes.items():
        row.sort(key=lambda change: (change[0], -change[1]))
        spans, waits, position = [True] * count, 0, 0
        while position < len(row):
            at_ms = row[position][0]
            while position < len(row) and row[position][0] == at_ms:
                waits += row[position][1]
                position += 1
            until_ms = row[position][0] if position < len(row) else math.inf
            if waits == 0:
                _clear(spans, (at_ms - from_ms) / every_ms, (until_ms - from_ms) / every_ms)
        _clear(spans, 0.0, (row[0][0] - from_ms) / every_ms)
        waited[group] = spans
    return waited


def _clear(spans: list[bool], begin: float, end: float) -> None:
    """Mark the spans that [begin, end) touches, in spans from the first."""
    for index in range(max(0, math.floor(begin)), min(len(spans), math.ceil(min(end, len(spans))))):
        spans[index] = False

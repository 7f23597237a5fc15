"""How does a tenant's rate change over the run?

A shape is a step function: from each instant on, the rate is the tenant's normal one times a factor. Arrivals are drawn
in operational time (where the rate is normal all along) and mapped back, so that burstiness keeps its meaning.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DIURNAL_SWING = 2.5  # peak over trough
DIURNAL_STEPS = 48
SPIKE_FACTOR, SPIKE_MS = 10.0, 30_000


@dataclass(frozen=True)
class Shape:
    """Steps of (from this ms on, factor), the first from 0; factors are above 0."""

    steps: tuple[tuple[int, float], ...] = ((0, 1.0),)

    def work_until(self, end_ms: int) -> float:
        """Operational milliseconds from 0 to `end_ms`."""
        return sum(factor * (min(until, end_ms) - start) for start, until, factor in self._pieces(end_ms))

    def factor_at(self, instant_ms: int) -> float:
        """The factor in force."""
        return self.steps[bisect.bisect_right(self.steps, instant_ms, key=lambda step: step[0]) - 1][1]

    def arrivals(self, operational_ms: Iterable[float], end_ms: int) -> Iterator[int]:
        """Real instants (whole ms, below `end_ms`) of rising operational instants."""
        pieces = iter(self._pieces(end_ms))
        piece = next(pieces, None)
        before = 0.0
        for instant in operational_ms:
            while piece is not None:
                start, until, factor = piece
                if instant < before + factor * (until - start):
                    yield int(start + (instant - before) / factor)
                    break
                before += factor * (until - start)
                piece = next(pieces, None)
            else:
                return

    def _pieces(self, end_ms: int) -> list[tuple[int, int, float]]:
        bounds = [start for start, _ in self.steps[1:]] + [end_ms]
        return [
            (start, min(until, end_ms), factor)
            for (start, factor), until in zip(self.steps, bounds, strict=True)
            if start < end_ms
        ]


STEADY = Shape()


def flood(factor: float, from_ms: int) -> Shape:
    """Normal until `from_ms`, then `factor` times as much."""
    return Shape(((0, 1.0), (from_ms, factor)))


def spike(at_ms: int) -> Shape:
    """Ten times the rate for half a minute."""
    return Shape(((0, 1.0), (at_ms, SPIKE_FACTOR), (at_ms + SPIKE_MS, 1.0)))


def diurnal(period_ms: int) -> Shape:
    """One day over the period: a sine whose peak is 2.5 times its trough and whose mean is normal."""
    swing = (DIURNAL_SWING - 1) / (DIURNAL_SWING + 1)
    return Shape(
        tuple(
            (period_ms * step // DIURNAL_STEPS, 1 - swing * math.cos(2 * math.pi * (step + 0.5) / DIURNAL_STEPS))
            for step in range(DIURNAL_STEPS)
        )
    )

"""Which start budget has a request that does not state one: what its scenario usually takes, within bounds?

A scenario is a tenant, a model and a task type. Its budget follows the time within which nine of ten of its requests
began: a step up when one took longer, a ninth of that step down when one did not, and never past what was seen. So
where nine of ten stay within the budget, steps up and down cancel out. How long one request took decides only the
direction: an outlier moves the budget by ABOVE / PART of it at most (by ABOVE ms, if that is more).
"""

from __future__ import annotations

from dataclasses import dataclass

PART = 256
ABOVE = 9


@dataclass(frozen=True)
class Bounds:
    """The smallest and largest budget (ms) that may be learned."""

    lower_ms: int
    upper_ms: int

    def held(self, budget_ms: int) -> int:
        """The budget, or the bound that it passes."""
        return min(max(budget_ms, self.lower_ms), self.upper_ms)


def bounds(default_ms: int, lower_ms: int | None, upper_ms: int | None) -> Bounds:
    """The operator's bounds; where there are none, half and twice the default of tier and task type.

    One that was set is kept, whatever the other would be by itself.
    """
    lower = lower_ms if lower_ms is not None else max(1, default_ms // 2)
    upper = upper_ms if upper_ms is not None else max(2 * default_ms, lower)
    return Bounds(min(lower, upper), upper)


def next_budget_ms(budget_ms: int, seen_ms: int, within: Bounds) -> int:
    """The budget (ms) after one more request that began `seen_ms` after it came."""
    unit = max(1, budget_ms // PART)
    if seen_ms > budget_ms:
        return within.held(min(budget_ms + ABOVE * unit, seen_ms))
    return within.held(max(budget_ms - unit, seen_ms))

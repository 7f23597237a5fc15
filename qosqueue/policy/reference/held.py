"""For how long could nothing more begin under the name of a limit?

A running total by name, kept at the instants at which that changes: an attempt begins or ends, a limit is set, lifted
or over. A request's part of it is the difference of two readings, so no pick has to write anything down for those that
it passes over.
"""

from __future__ import annotations

from collections.abc import Iterable

Held = tuple[int, int]
"""Total in ms until it was last free, and since when it is reached (ms since the epoch; 0: it is free)."""

FREE: Held = (0, 0)
KINDS = "pmlctb"
"""What the first letter of a limit's name says: place, model, lane, tier (class), tenant, the model's breaker."""


class HeldTimes:
    """The totals of one group; names of limits that are gone keep theirs."""

    def __init__(self) -> None:
        self.by_name: dict[str, Held] = {}

    def set_reached(self, now: int, name: str, is_reached: bool) -> None:
        """Under this name nothing more may begin, or something may again."""
        total, since = self.by_name.get(name, FREE)
        if is_reached == (since > 0):
            return
        self.by_name[name] = (total, now) if is_reached else (total + max(0, now - since), 0)

    def is_reached(self, name: str) -> bool:
        """Whether nothing more may begin under this name, as far as was told."""
        return self.by_name.get(name, FREE)[1] > 0

    def reading(self, now: int, names: Iterable[str]) -> tuple[int, ...]:
        """The totals of a message's names now, in the order of KINDS; 0 for a name that it does not have."""
        if not self.by_name:
            return (0,) * len(KINDS)
        by_kind = dict.fromkeys(KINDS, 0)
        for name in names:
            total, since = self.by_name.get(name, FREE)
            by_kind[name[0]] = total + (max(0, now - since) if since else 0)
        return tuple(by_kind.values())

"""How many attempts may run at once, and how many do?

One word for tenant caps, bulkheads, paused lanes and open breakers: a *limit* on the attempts that run under a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.reference.held import HeldTimes
from qosqueue.policy.reference.message import Place


@dataclass(frozen=True)
class Limit:
    """At most so many at once, until an instant (ms since the epoch; 0: until it is changed)."""

    most: int
    until: int = 0


def tenant_limit(tenant: str) -> str:
    """Name of a tenant's limit: its cap."""
    return f"t:{tenant}"


def lane_limit(lane: str) -> str:
    """Name of a lane's limit; 0 pauses it."""
    return f"l:{lane}"


def model_limit(model: str) -> str:
    """Name of a model's limit."""
    return f"m:{model}"


def breaker_limit(model: str) -> str:
    """Name of the limit that a model's breaker sets while it is not closed."""
    return f"b:{model}"


def place_limit(lane: str, model: str) -> str:
    """Name of the limit of one lane on one model: the tier's bulkhead there."""
    return f"p:{len(lane.encode())}:{lane}:{model}"


def tier_limit(tier: str) -> str:
    """Name of a tier's limit over all its lanes and models: its bulkhead."""
    return f"c:{tier}"


@lru_cache(maxsize=1024)  # every pick asks for the same few places
def names_of(place: Place) -> tuple[str, ...]:
    """The limits that hold for every message of a place. The tier is its lane's, what stands before the first dot: a
    boost, or another priority, never takes a message out of its bulkhead."""
    lane, model = place
    names = place_limit(lane, model), model_limit(model), lane_limit(lane), breaker_limit(model)
    tier, dot, _ = lane.partition(".")
    return (*names, tier_limit(tier)) if tier and dot else names


class Limits:
    """Limits and the attempts that run under each name."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.ends = OrderedSet()
        self.running: dict[str, int] = {}
        self.held = HeldTimes()

    def put(self, now: int, name: str, limit: Limit | None) -> None:
        """Set the limit of a name, or lift it."""
        self.ends.remove(name)
        self.held.set_reached(now, name, limit is not None and self.running.get(name, 0) >= limit.most)
        if limit is None:
            self.limits.pop(name, None)
            return
        self.limits[name] = limit
        if limit.until:
            self.ends.add(name, limit.until)

    def reached(self, now: int, name: str) -> bool:
        """Whether a limit lets nothing more begin under that name now."""
        limit = self.limits.get(name)
        return limit is not None and not 0 < limit.until <= now and self.running.get(name, 0) >= limit.most

    def begin(self, now: int, place: Place, tenant: str) -> None:
        """Count an attempt."""
        for name in self._counted(place, tenant):
            self.running[name] = self.running.get(name, 0) + 1
            if self.reached(now, name):
                self.held.set_reached(now, name, True)

    def end(self, now: int, place: Place, tenant: str) -> set[str]:
        """Count it no more; the names under which that was one too many, and another may begin now."""
        opened = set()
        for name in self._counted(place, tenant):
            left = self.running.get(name, 0) - 1
            if left > 0:
                self.running[name] = left
            else:
                self.running.pop(name, None)
            if name in self.limits and left == self.limits[name].most - 1:
                opened.add(name)
            if self.held.is_reached(name) and (name not in self.limits or left < self.limits[name].most):
                self.held.set_reached(now, name, False)
        return opened

    def _counted(self, place: Place, tenant: str) -> tuple[str, ...]:
        return (*names_of(place), tenant_limit(tenant)) if tenant else names_of(place)

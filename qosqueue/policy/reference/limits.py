"""How many attempts may run at once, and how many do?

One word for tenant caps, bulkheads, paused lanes and open breakers: a *limit* on the attempts that run under a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
    """Name of a model's limit; 0 is an open breaker, 1 a half-open one."""
    return f"m:{model}"


def place_limit(lane: str, model: str) -> str:
    """Name of the limit of one lane on one model: the tier's bulkhead there."""
    return f"p:{len(lane.encode())}:{lane}:{model}"


@lru_cache(maxsize=1024)  # every pick asks for the same few places
def names_of(place: Place) -> tuple[str, str, str]:
    """The limits that hold for every message of a place."""
    lane, model = place
    return place_limit(lane, model), model_limit(model), lane_limit(lane)


class Limits:
    """Limits and the attempts that run under each name."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.running: dict[str, int] = {}

    def reached(self, now: int, name: str) -> Limit | None:
        """The limit of that name if it lets nothing more begin now."""
        limit = self.limits.get(name)
        if limit is None or 0 < limit.until <= now or self.running.get(name, 0) < limit.most:
            return None
        return limit

    def begin(self, place: Place, tenant: str) -> None:
        """Count an attempt."""
        for name in self._counted(place, tenant):
            self.running[name] = self.running.get(name, 0) + 1

    def end(self, place: Place, tenant: str) -> None:
        """Count it no more."""
        for name in self._counted(place, tenant):
            left = self.running.get(name, 0) - 1
            if left > 0:
                self.running[name] = left
            else:
                self.running.pop(name, None)

    def _counted(self, place: Place, tenant: str) -> tuple[str, ...]:
        return (*names_of(place), tenant_limit(tenant)) if tenant else names_of(place)

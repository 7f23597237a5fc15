"""What do the commands at the door do: what is admitted, what it holds, and what breakers hear?

Twins of scripts, as those of queue.py, to which they belong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from qosqueue.policy import order
from qosqueue.policy.breaker import Breaker
from qosqueue.policy.breaker import State as BreakerState
from qosqueue.policy.quota import HELD_FOR_MS, LARGEST_AMOUNT, Quota, Verdict
from qosqueue.policy.reference.breakers import Breakers
from qosqueue.policy.reference.checked import check_spent, checked
from qosqueue.policy.reference.door import Door


class AtTheDoor(ABC):
    """The commands of a group that concern its door."""

    door: Door
    breakers: Breakers

    @abstractmethod
    def has_message(self, task: str) -> bool:
        """Whether the order knows a task."""

    def admit(self, now: int, *, request: str, quotas: Sequence[Quota]) -> Verdict:
        """Take what a request needs of all its quotas, or nothing of any."""
        if len({(quota.kind, quota.name) for quota in quotas}) < len(quotas):
            raise ValueError(f"quotas: each once expected, got {quotas}")
        for quota in quotas:
            checked(most=(quota.most, 0, LARGEST_AMOUNT), amount=(quota.amount, 0, LARGEST_AMOUNT))
        return self.door.admit(now, request, quotas)

    def release(self, now: int, *, request: str, spent: Mapping[str, int] | None = None) -> int:
        """End what a request holds: 1, or 0 if it holds nothing (any more). `spent` is what it used, `tokens` and
        `gpu_ms`; None: nothing, and all that it took is given back."""
        check_spent(spent)
        return self.door.release(now, request, spent)

    def lapse(self, now: int, *, limit: int) -> tuple[str, ...]:
        """Give back what is held by requests that were never queued, or that the order has lost; their ids."""
        checked(limit=(limit, 1, order.LONGEST_MS))
        lapsed = []
        for request in self.door.ends.up_to(now, limit):
            if self.has_message(request):
                self.door.hold_on(request, now + HELD_FOR_MS)
            else:
                self.door.end(request, was_served=False)
                lapsed.append(request)
        return tuple(lapsed)

    def observe(self, now: int, *, names: Sequence[str], served: bool) -> list[BreakerState]:
        """Tell breakers how an attempt ended; their states now."""
        return self.breakers.observe(now, names, served=served)

    def probe(self, now: int) -> dict[str, Breaker]:
        """Every breaker that is not closed and sound, as time has made it."""
        return self.breakers.list(now)

    def trip(self, now: int, *, name: str, for_ms: int | None) -> None:
        """Open a breaker for so long (0: until it is reset), or reset it (None)."""
        checked(for_ms=(for_ms or 0, 0, order.LONGEST_MS))
        self.breakers.trip(now, name, for_ms)

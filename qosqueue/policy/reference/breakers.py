"""Which breakers are not closed, and what do they let run? Twin of `_breakers.lua`; the rules are policy/breaker.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qosqueue.policy import breaker as rules
from qosqueue.policy.breaker import SOUND, Breaker, State
from qosqueue.policy.reference.limits import Limit, breaker_limit


class Breakers:
    """The breakers of one group; `limit` sets or lifts the limit under which a model's attempts run."""

    def __init__(self, limit: Callable[[int, str, Limit | None], None]) -> None:
        self.found: dict[str, Breaker] = {}
        self._limit = limit

    def observe(self, now: int, names: Sequence[str], *, served: bool) -> list[State]:
        """An attempt has ended; the states of its breakers now."""
        return [self._observe(now, name, served) for name in names]

    def list(self, now: int) -> dict[str, Breaker]:
        """Every breaker that is not closed and sound, as time has made it."""
        return {name: self._look(now, name) for name in list(self.found)}

    def trip(self, now: int, name: str, for_ms: int | None) -> None:
        """Open one for so long (0: until it is reset), or reset it."""
        before = self._of(name)
        self._put(now, name, SOUND if for_ms is None else rules.tripped(before, now, for_ms), before)

    def opens_after_ms(self, now: int, name: str) -> int:
        """For how long the door lets nothing through."""
        return rules.opens_after_ms(self._look(now, name), now)

    def let_in(self, name: str) -> None:
        """The door let one in."""
        before = self._of(name)
        if before.state is State.HALF_OPEN:
            self.found[name] = replace(before, let_in=before.let_in + 1)

    def _of(self, name: str) -> Breaker:
        return self.found.get(name, SOUND)

    def _look(self, now: int, name: str) -> Breaker:
        before = self._of(name)
        after = rules.looked_at(before, now)
        self._put(now, name, after, before)
        return after

    def _observe(self, now: int, name: str, served: bool) -> State:
        before = self._look(now, name)
        after = rules.served(before) if served else rules.failed(before, now)
        self._put(now, name, after, before)
        return after.state

    def _put(self, now: int, name: str, after: Breaker, before: Breaker) -> None:
        if after.state is State.CLOSED and not after.score:
            self.found.pop(name, None)
        else:
            self.found[name] = after
        if after.state is not before.state and name.startswith("m:"):
            most = rules.most_running(after)
            self._limit(now, breaker_limit(name[2:]), None if most is None else Limit(most))

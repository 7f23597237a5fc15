"""When does a breaker let work through? The table of its states, and what moves it from one to the next.

A breaker watches one model (`m:<model>`) or one replica (`r:<worker>:<model>`). Each fault of an engine adds FAULT_STEP
to its score, each service takes one away: so it opens after five faults in a row, or when more than a quarter of what
is tried fails, and never for less. Open, it lets nothing through; after a pause it lets a few probes run; when these
have been served it is closed, when one fails the next pause is twice as long.

Pure and in whole numbers, as the scripts (broker/lua/_breakers.lua) do it. Instants in ms since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from qosqueue.policy.order import LONGEST_MS

FAULT_STEP: Final = 3
OPENS_AT: Final = 15
FORGOTTEN_MS: Final = 60_000
"""Faults before a pause of so long without one no longer count."""
FIRST_PAUSE_MS: Final = 5_000
LONGEST_PAUSE_MS: Final = 60_000
PROBES: Final = 2
"""So many attempts run at once while it is half open, and so many must be served."""
PROBE_MS: Final = 5_000
"""So long the door waits for the outcome of the probes that it let in before it lets in as many again."""
UNTRIED_MS: Final = 3_600_000
"""A breaker that has waited so long for probes is closed: nobody asks for its model, or its worker is no more."""


class State(StrEnum):
    """Closed: all may run; open: nothing; half open: probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(StrEnum):
    """What moves a breaker."""

    TOO_MANY_FAULTS = "too_many_faults"
    PAUSE_OVER = "pause_over"
    PROBES_SERVED = "probes_served"
    PROBE_FAILED = "probe_failed"
    UNTRIED = "untried"
    TRIPPED = "tripped"
    RESET = "reset"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.CLOSED: {Event.TOO_MANY_FAULTS: State.OPEN, Event.TRIPPED: State.OPEN, Event.RESET: State.CLOSED},
    State.OPEN: {Event.PAUSE_OVER: State.HALF_OPEN, Event.TRIPPED: State.OPEN, Event.RESET: State.CLOSED},
    State.HALF_OPEN: {
        Event.PROBES_SERVED: State.CLOSED,
        Event.PROBE_FAILED: State.OPEN,
        Event.UNTRIED: State.CLOSED,
        Event.TRIPPED: State.OPEN,
        Event.RESET: State.CLOSED,
    },
}


@dataclass(frozen=True)
class Breaker:
    """One breaker. `score` of faults and the instant `since` of the last one count while it is closed (else
    `since` tells when it came to its state); `until` ends a
    pause of `pause_ms`, or the wait for probes; `left` probes are still to be served, `let_in` were let in by the
    door since it waits for them."""

    state: State = State.CLOSED
    score: int = 0
    since: int = 0
    until: int = 0
    pause_ms: int = FIRST_PAUSE_MS
    left: int = 0
    let_in: int = 0


SOUND: Final = Breaker()


def model_breaker(model: str) -> str:
    """Name of a model's breaker."""
    return f"m:{model}"


def replica_breaker(worker: str, model: str) -> str:
    """Name of the breaker of a worker's replica: the worker's name may hold colons, so its length comes first."""
    return f"r:{len(worker.encode())}:{worker}:{model}"


def moved(breaker: Breaker, event: Event) -> State:
    """Where an event leads; raises KeyError for one that this state does not know."""
    return TRANSITIONS[breaker.state][event]


def looked_at(breaker: Breaker, now: int) -> Breaker:
    """The breaker as time has made it."""
    if breaker.state is State.OPEN:
        # A clock that went back makes no pause longer.
        until = min(breaker.until, now + breaker.pause_ms)
        if until > now:
            return replace(breaker, until=until)
        state = moved(breaker, Event.PAUSE_OVER)
        return replace(breaker, state=state, since=now, until=now + PROBE_MS, left=PROBES, let_in=0)
    if breaker.state is State.HALF_OPEN and now - breaker.since > UNTRIED_MS:
        return SOUND
    if breaker.state is State.HALF_OPEN and not now < breaker.until <= now + PROBE_MS:
        return replace(breaker, until=now + PROBE_MS, let_in=0)
    return breaker


def served(breaker: Breaker) -> Breaker:
    """After an attempt that the engine has served. What was still running when it opened says nothing."""
    if breaker.state is State.CLOSED:
        return replace(breaker, score=breaker.score - 1) if breaker.score > 1 else SOUND
    if breaker.state is State.HALF_OPEN:
        return replace(breaker, left=breaker.left - 1) if breaker.left > 1 else SOUND
    return breaker


def failed(breaker: Breaker, now: int) -> Breaker:
    """After an attempt that the engine has failed, or not answered."""
    if breaker.state is State.CLOSED:
        before = breaker.score if now - breaker.since <= FORGOTTEN_MS else 0
        if before + FAULT_STEP < OPENS_AT:
            return replace(breaker, score=before + FAULT_STEP, since=now)
        return _opened(breaker, Event.TOO_MANY_FAULTS, now, breaker.pause_ms)
    if breaker.state is State.HALF_OPEN:
        return _opened(breaker, Event.PROBE_FAILED, now, min(2 * breaker.pause_ms, LONGEST_PAUSE_MS))
    return breaker


def tripped(breaker: Breaker, now: int, for_ms: int) -> Breaker:
    """Opened by an operator for so long (0: until it is reset)."""
    return _opened(breaker, Event.TRIPPED, now, for_ms or LONGEST_MS)


def opens_after_ms(breaker: Breaker, now: int) -> int:
    """For how long the door lets nothing through: 0 if it does now."""
    if breaker.state is State.OPEN or (breaker.state is State.HALF_OPEN and breaker.let_in >= PROBES):
        return max(1, breaker.until - now)
    return 0


def most_running(breaker: Breaker) -> int | None:
    """How many attempts may run at once; None: no limit."""
    return {State.CLOSED: None, State.OPEN: 0, State.HALF_OPEN: PROBES}[breaker.state]


def _opened(breaker: Breaker, event: Event, now: int, pause_ms: int) -> Breaker:
    return Breaker(moved(breaker, event), since=now, until=now + pause_ms, pause_ms=pause_ms)

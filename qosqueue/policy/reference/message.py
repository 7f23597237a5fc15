"""What does the queue know of one message?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a message is: in the order, with a holder, or kept aside after its last attempt."""

    QUEUED = "queued"
    LEASED = "leased"
    DEAD = "dead"


@dataclass
class Message:
    """One message. Times in ms since the epoch; `expires` 0 means never."""

    tag: str
    task: str
    lane: str
    model: str
    rank: int
    arrival: int
    deadline: int
    expires: int
    max_attempts: int
    payload: str
    state: State = State.QUEUED
    fence: int = 0
    attempts: int = 0
    holder: str | None = None
    lease_until: int | None = None
    dead_since: int | None = None
    aged: bool = False
    cancel: bool = False


@dataclass(frozen=True)
class Delivery:
    """What a holder gets with a lease. `fence` is the number that its settle must show."""

    tag: str
    fence: int
    lane: str
    model: str
    task: str
    lease_until: int
    arrival: int
    payload: str


@dataclass(frozen=True)
class Reaped:
    """Task ids that one sweep moved: queued again, dead, expired in the queue, withdrawn after a lost lease.

    `fences` goes with `requeued`: the fence of each lease that was lost.
    """

    requeued: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    fences: tuple[int, ...] = ()

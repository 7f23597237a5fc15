"""What does the queue know of one message?"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal

Outcome = Literal["done", "void", "requeue", "retry", "dead"]
"""How an attempt ends: served; over without service, which teaches nothing and costs no contract anything; to be put
back, or tried again as one attempt more; to be kept aside."""


class State(StrEnum):
    """Where a message is: in the order, with a holder, or kept aside after its last attempt."""

    QUEUED = "queued"
    LEASED = "leased"
    DEAD = "dead"


class Stand(StrEnum):
    """How a queued message takes part in the order.

    `later` waits for its ETA, `live` is in the order by its key, `relegated` can no longer start in its budget and
    stands behind all that can (vip stays live, but for what is beyond its contract), `batch` fills slots that nobody
    else wants, `expired` is past its time to live: it waits for a sweep to tell of it, and never runs.
    """

    LATER = "later"
    LIVE = "live"
    RELEGATED = "relegated"
    BATCH = "batch"
    EXPIRED = "expired"


@dataclass(slots=True)
class Message:
    """One message. Times in ms since the epoch, costs in ms of one slot.

    `arrival` is its ETA if it has one, and `eta` that instant until it has come, else 0; `expires` 0: never;
    `budget_ms` 0: no deadline; `predicted_ms` is what the sender said, `cost_ms` the same corrected by the tenant's
    bias; `penalty` None: not yet decided (it is when the message first joins the order), `claimed` what its
    organisation claimed before it then; `boost` is a priority that counts until `boost_until`; `holder` has it, or had
    it last; the two `seen` are the readings of when it began to wait (passage.py).
    """

    tag: str
    task: str
    lane: str
    model: str
    tenant: str
    organisation: str
    priority: int
    batch: bool
    budget_ms: int
    predicted_ms: int
    cost_ms: int
    urgency: int
    arrival: int
    eta: int
    number: int
    expires: int
    max_attempts: int
    payload: str
    penalty: int | None = None
    in_profile: bool = False
    claimed: int | None = None
    boost: int = -1
    boost_until: int = 0
    state: State = State.QUEUED
    stand: Stand = Stand.LATER
    score: int = 0
    due: int = 0
    fence: int = 0
    attempts: int = 0
    holder: str | None = None
    started: int = 0
    cancel: bool = False
    seen: tuple[int, ...] = ()
    seen_held: tuple[int, ...] = ()

    @property
    def row(self) -> Row:
        """The ordered row that it waits in while queued (and not for its ETA)."""
        return self.stand, self.lane, self.model

    def is_expired(self, now: int) -> bool:
        """Whether it is past its time to live: it must not run any more."""
        return 0 < self.expires <= now


Place = tuple[str, str]
"""Lane and model."""

Row = tuple[Stand, str, str]
"""Stand, lane and model: one ordered row of waiting messages."""


@dataclass(frozen=True)
class Delivery:
    """What a holder gets with a lease. `fence` is the number that its settle must show, `passage` what the message met
    while it waited (passage.py)."""

    tag: str
    fence: int
    lane: str
    model: str
    task: str
    lease_until: int
    arrival: int
    payload: str
    passage: str = ""


@dataclass(frozen=True)
class Nothing:
    """No message may run now. `retry_after_ms`: when to look again if no bell rings before; None: nothing waits."""

    retry_after_ms: int | None


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

    def __add__(self, other: Reaped) -> Reaped:
        """What two sweeps have moved, one after the other."""
        return Reaped(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def is_full(self, limit: int) -> bool:
        """Whether there may be more than a sweep of at most `limit` of each kind has moved."""
        return max(len(self.requeued) + len(self.dead) + len(self.withdrawn), len(self.expired)) >= limit


@dataclass(frozen=True)
class Aged:
    """Task ids that time has moved: ETA reached, batch that joined the order, relegated, boost ended, vip's missed."""

    woken: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    relegated: tuple[str, ...] = ()
    boost_ended: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

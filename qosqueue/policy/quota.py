"""What is used of a quota, does one more request fit, and when will there be room?

A *quota* bounds what is admitted under a name, as a *limit* bounds what runs under one. All quotas of a request are
asked together (broker/lua/admit.lua): each has room, or nothing is taken of any.

A minute's quota is a bucket that `most` units a minute drain: over any span of t minutes at most `most · t + most` are
admitted. What is in it is counted in 1/60000 of a unit, so that a ms drains `most` of them and nothing is ever
divided. A clock that goes back drains nothing, and refills no day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
LARGEST_AMOUNT: Final = 1 << 36
"""A minute's worth of it, in 1/60000, and as much again stay under 2^53."""

HOLD_MS: Final = 60_000
"""An admitted request that is not queued by then is taken to be lost: what it holds is given back."""
HELD_FOR_MS: Final = 600_000
"""How long what a queued or running request holds is left alone before somebody looks whether it is still there."""
MINUTE_KEPT_MS: Final = 3_600_000
DAY_KEPT_MS: Final = 2 * DAY_MS


class Kind(StrEnum):
    """What a quota counts: requests and tokens a minute; tokens and ms of slots a (UTC) day; requests that were
    accepted and have not ended; those of them that do not run yet; and whether a breaker lets anything through."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    DAY_TOKENS = "day_tokens"
    DAY_GPU_MS = "day_gpu_ms"
    FLIGHT = "flight"
    QUEUE = "queue"
    BREAKER = "breaker"


MINUTE: Final = frozenset({Kind.REQUESTS, Kind.TOKENS})
DAY: Final = frozenset({Kind.DAY_TOKENS, Kind.DAY_GPU_MS})


@dataclass(frozen=True)
class Quota:
    """One quota that a request is asked for: whose it is (`t:ten_1`, `c:vip`, …), what it counts, how much there is,
    how much this request takes.

    That of a queue is named as the limit whose running attempts do not wait; that of a breaker as the breaker, with 0
    and 0.
    """

    name: str
    kind: Kind
    most: int
    amount: int


@dataclass(frozen=True)
class Use:
    """What is used: of a minute in 1/60000 at the instant `since`; of the day that began at `since`; else just the
    number."""

    amount: int = 0
    since: int = 0


@dataclass(frozen=True)
class Verdict:
    """The answer to a request for quotas: `admitted` (also if it was before), the server's time, and of each quota what
    is used now: of an admitted request with its own part. Of a breaker: for how many ms it lets nothing through."""

    admitted: bool
    now: int
    used: tuple[int, ...]


def scaled(kind: Kind, amount: int) -> int:
    """An amount as it is counted."""
    return amount * MINUTE_MS if kind in MINUTE else amount


def used_now(now: int, kind: Kind, most: int, use: Use) -> Use:
    """What is still used now."""
    if kind in MINUTE:
        return Use(use.amount - min(use.amount, max(0, now - use.since) * most), now)
    if kind in DAY:
        today = now - now % DAY_MS
        if use.since < today:
            return Use(0, today)
        # A clock that went back over midnight keeps the day; one that went further back keeps what was used.
        return Use(use.amount, today if use.since > today + DAY_MS else use.since)
    return use


def fits(quota: Quota, used: int) -> bool:
    """Whether the request's amount fits beside what is used."""
    if quota.kind is Kind.BREAKER:
        return used == 0
    return used + scaled(quota.kind, quota.amount) <= scaled(quota.kind, quota.most)


def is_lasting(kind: Kind) -> bool:
    """Whether it counts for longer than the minute of the door, and is no breaker's word."""
    return kind is not Kind.BREAKER and kind not in MINUTE


def counted_again(quotas: Iterable[Quota]) -> list[Quota]:
    """What a request takes that was let in once and comes back into the queue without passing the door.

    It is refused by none of them, full or not: accepted work is not lost. A minute's quota was paid at the door.
    """
    lasting = (quota for quota in quotas if is_lasting(quota.kind))
    return [replace(quota, most=LARGEST_AMOUNT) for quota in lasting]


def room_after_ms(quota: Quota, used: int, now: int) -> int | None:
    """After how many ms there will be room if nobody else comes. None: nobody can tell, or never."""
    if fits(quota, used):
        return 0
    match quota.kind:
        case Kind.BREAKER:
            return used
        case Kind.REQUESTS | Kind.TOKENS if 0 <= quota.amount <= quota.most > 0:
            return -(-(used + scaled(quota.kind, quota.amount - quota.most)) // quota.most)
        case Kind.DAY_TOKENS | Kind.DAY_GPU_MS if quota.amount <= quota.most:
            return DAY_MS - now % DAY_MS
        case _:
            return None


def whole_used(quota: Quota, used: int) -> int:
    """What is used in whole units, rounded up: a part of a token is none that is left."""
    return -(-used // MINUTE_MS) if quota.kind in MINUTE else used


def empty_after_ms(quota: Quota, used: int, now: int) -> int:
    """After how many ms nothing of a minute's quota is used any more; of a day's, until its end."""
    if quota.kind in MINUTE:
        return -(-used // max(1, quota.most))
    return DAY_MS - now % DAY_MS

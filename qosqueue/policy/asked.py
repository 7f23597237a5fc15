"""Which quotas does a request need, and how is it told that one has no room?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from qosqueue.policy.breaker import model_breaker
from qosqueue.policy.profile import Profile
from qosqueue.policy.quota import (
    DAY,
    Kind,
    Quota,
    Verdict,
    empty_after_ms,
    fits,
    room_after_ms,
    whole_used,
)
from qosqueue.policy.reference.limits import tenant_limit, tier_limit
from qosqueue.policy.refusal import LONGEST_RETRY_S, Rate, Rates, Refusal
from qosqueue.policy.terms import TaskType, Tier

KINDS = {
    "requests_per_minute": Kind.REQUESTS,
    "tokens_per_minute": Kind.TOKENS,
    "tokens_per_day": Kind.DAY_TOKENS,
    "gpu_seconds_per_day": Kind.DAY_GPU_MS,
    "max_in_flight": Kind.FLIGHT,
    "max_queued": Kind.QUEUE,
}
"""What a tenant's limit of that name counts."""

_COUNTED = {
    Kind.REQUESTS: "requests per minute",
    Kind.TOKENS: "tokens per minute",
    Kind.DAY_TOKENS: "tokens per day",
    Kind.DAY_GPU_MS: "GPU-milliseconds per day",
    Kind.FLIGHT: "requests in flight",
    Kind.QUEUE: "requests waiting",
}

MOST_JUDGED = 8
"""So many limits are kept of one request."""


@dataclass(frozen=True)
class Asked:
    """One quota of a request, and whose it is, as a person reads it; `is_agreed`: a limit that was agreed with its
    tenant."""

    quota: Quota
    whose: str
    is_agreed: bool = False


class Judged(NamedTuple):
    """How a limit stood when a request was let in: `used` of `most`, with the request's own part."""

    counted: str
    whose: str
    used: int
    most: int


def asked_of_tenant(
    tenant_id: str,
    tenant: str,
    limit: str,
    most: int,
    profile: Profile,
    *,
    model: str | None = None,
    task_type: TaskType | None = None,
) -> Asked:
    """The quota for one limit (a key of KINDS) of a tenant, over all its requests or those of a model and task type."""
    kind = KINDS[limit]
    amounts = {
        Kind.TOKENS: profile.cost_tokens,
        Kind.DAY_TOKENS: profile.cost_tokens,
        Kind.DAY_GPU_MS: profile.cost_ms,
    }
    name, whose = tenant_limit(tenant_id), f"tenant {tenant!r}"
    if model is not None or task_type is not None:
        # An id and a task type hold no colon, a model's name may.
        name = f"{name}:{task_type or ''}:{model or ''}"
        parts = [f"model {model!r}" if model is not None else "", f"{task_type} requests" if task_type else ""]
        whose = f"{whose} for {' and '.join(filter(None, parts))}"
    in_all = most * 1_000 if kind is Kind.DAY_GPU_MS else most
    return Asked(Quota(name, kind, in_all, amounts.get(kind, 1)), whose, is_agreed=True)


@lru_cache(maxsize=16)
def asked_of_tier(tier: Tier, most_queued: int) -> Asked:
    """How many of one tier may wait."""
    return Asked(Quota(tier_limit(tier), Kind.QUEUE, most_queued, 1), f"tier {tier}")


@lru_cache(maxsize=256)
def asked_of_model(model: str) -> Asked:
    """Whether the model's breaker lets anything in."""
    return Asked(Quota(model_breaker(model), Kind.BREAKER, 0, 0), f"model {model!r}")


def refusal_of(asked: Sequence[Asked], verdict: Verdict, turn_ms: int) -> Refusal:
    """Why a request was not let in: of the quotas without room the one that takes longest. `turn_ms` is what a request
    takes to run: so long it may be until one that is in flight has ended."""
    full = [(each, used) for each, used in zip(asked, verdict.used, strict=True) if not fits(each.quota, used)]
    waits = [(_wait_ms(each.quota, used, verdict.now, turn_ms), each, used) for each, used in full]
    wait_ms, longest, used = max(waits, key=lambda wait: float("inf") if wait[0] is None else wait[0])
    return _told(longest, used, wait_ms, rates_of(asked, verdict))


def rates_of(asked: Iterable[Asked], verdict: Verdict) -> Rates:
    """What is left of requests and tokens a minute, for the headers: of several quotas the tightest; without any of a
    minute the day's."""

    def tightest(*kinds: Kind) -> Rate | None:
        for kind in kinds:
            found = [
                _rate(each.quota, used, verdict.now)
                for each, used in zip(asked, verdict.used, strict=True)
                if each.quota.kind is kind
            ]
            if found:
                return min(found, key=lambda rate: rate.remaining)
        return None

    asked = tuple(asked)
    return Rates(tightest(Kind.REQUESTS), tightest(Kind.TOKENS, Kind.DAY_TOKENS))


def judged_by(asked: Sequence[Asked], verdict: Verdict) -> tuple[Judged, ...]:
    """The limits agreed with its tenant that an admitted request was judged by: the first MOST_JUDGED."""
    found = [
        Judged(_COUNTED[each.quota.kind], each.whose, whole_used(each.quota, used), each.quota.most)
        for each, used in zip(asked, verdict.used, strict=True)
        if each.is_agreed
    ]
    return tuple(found[:MOST_JUDGED])


def _rate(quota: Quota, used: int, now: int) -> Rate:
    return Rate(quota.most, max(0, quota.most - whole_used(quota, used)), empty_after_ms(quota, used, now))


def _wait_ms(quota: Quota, used: int, now: int, turn_ms: int) -> int | None:
    wait_ms = room_after_ms(quota, used, now)
    return turn_ms if wait_ms is None and quota.kind in (Kind.FLIGHT, Kind.QUEUE) else wait_ms


def _told(asked: Asked, used: int, wait_ms: int | None, rates: Rates) -> Refusal:
    quota, whose = asked.quota, asked.whose
    wait_s = None if wait_ms is None else max(1, -(-wait_ms // 1_000))
    if quota.kind is Kind.BREAKER:
        wait_s = min(wait_s or 1, LONGEST_RETRY_S)
        message = f"{whose[0].upper()}{whose[1:]} is out of service. Try again in {wait_s} s."
        return Refusal(503, "model_unavailable", message, "model", wait_s, rates, quota.kind)
    counted, needs = _COUNTED[quota.kind], quota.amount
    if wait_s is None:
        message = (
            f"This request needs {needs} {counted.split(' per ')[0]}, and {whose} may use {quota.most} "
            f"{'per ' + counted.split(' per ')[1] + ' ' if ' per ' in counted else ''}in all: make it smaller."
        )
        return Refusal(429, "insufficient_quota", message, rates=rates, lacks=quota.kind)
    if quota.kind not in DAY:
        wait_s = min(wait_s, LONGEST_RETRY_S)
    message = (
        f"Limit of {whose} reached: {quota.most} {counted}, {whole_used(quota, used)} used, this request needs "
        f"{needs}. Try again in {wait_s} s."
    )
    if quota.kind is Kind.QUEUE:
        return Refusal(503, "queue_full", message, retry_after_s=wait_s, rates=rates, lacks=quota.kind)
    code = "insufficient_quota" if quota.kind in DAY else "rate_limit_exceeded"
    return Refusal(429, code, message, retry_after_s=wait_s, rates=rates, lacks=quota.kind)

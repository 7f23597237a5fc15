"""Does a refusal say which quota has no room, whose it is, how much is used and when to come again?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.asked import (
    KINDS,
    MOST_JUDGED,
    Asked,
    Judged,
    asked_of_model,
    asked_of_tenant,
    asked_of_tier,
    judged_by,
    rates_of,
    refusal_of,
)
from qosqueue.policy.profile import Facts, make_profile
from qosqueue.policy.quota import DAY_MS, MINUTE_MS, Kind, Quota, Verdict, fits
from qosqueue.policy.refusal import LONGEST_RETRY_S, NO_RATES, Rate
from qosqueue.policy.terms import TaskType, Tier, WeightClass

NOW = 1_800_000_000_000
PROFILE = make_profile(Facts(Tier.BASIC, WeightClass.LIGHT, TaskType.ONLINE, 10, 20))


def asked(limit: str, most: int, **whose: Any) -> Asked:
    return asked_of_tenant("ten_1", "acme", limit, most, PROFILE, **whose)


def refusal(each: Asked, used: int, turn_ms: int = 3_000) -> Any:
    return refusal_of([each], Verdict(False, NOW, (used,)), turn_ms)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 100), st.integers(0, 100 * MINUTE_MS)),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 10**7),
)
def test_every_refusal_has_a_status_and_says_its_figures(figures: list[tuple[str, int, int]], turn_ms: int) -> None:
    quotas = [asked(limit, most) for limit, most, _ in figures]
    verdict = Verdict(False, NOW, tuple(used for *_, used in figures))
    full = [each for each, used in zip(quotas, verdict.used, strict=True) if not fits(each.quota, used)]
    if not full:
        return
    told = refusal_of(quotas, verdict, turn_ms)
    assert told.status in (429, 503)
    assert "'acme'" in told.message
    assert told.lacks in {each.quota.kind for each in full}
    if told.retry_after_s is not None:
        assert f"in {told.retry_after_s} s" in told.message
        assert 1 <= told.retry_after_s <= (86_400 if told.code == "insufficient_quota" else LONGEST_RETRY_S)
    else:
        assert told.code == "insufficient_quota"


def test_amounts_and_names() -> None:
    assert asked("tokens_per_day", 5).quota == Quota("t:ten_1", Kind.DAY_TOKENS, 5, 30)
    assert asked("gpu_seconds_per_day", 5).quota == Quota("t:ten_1", Kind.DAY_GPU_MS, 5_000, PROFILE.cost_ms)
    assert asked("max_in_flight", 5).quota == Quota("t:ten_1", Kind.FLIGHT, 5, 1)
    of_both = asked("max_in_flight", 5, model="a:b", task_type=TaskType.BATCH)
    assert (of_both.quota.name, of_both.whose) == (
        "t:ten_1:batch:a:b",
        "tenant 'acme' for model 'a:b' and batch requests",
    )
    assert asked("max_in_flight", 5, model="m").whose == "tenant 'acme' for model 'm'"
    assert asked("max_in_flight", 5, task_type=TaskType.ASYNC).whose == "tenant 'acme' for async requests"
    assert asked_of_tier(Tier.BASIC, 9) == Asked(Quota("c:basic", Kind.QUEUE, 9, 1), "tier basic")


@pytest.mark.parametrize(
    ("each", "used", "status", "code", "retry_after_s"),
    [
        (asked("requests_per_minute", 60), 60 * MINUTE_MS, 429, "rate_limit_exceeded", 1),
        (asked("tokens_per_minute", 30), 60 * MINUTE_MS, 429, "rate_limit_exceeded", 120),
        (asked("tokens_per_minute", 29), 0, 429, "insufficient_quota", None),
        (asked("tokens_per_day", 40), 20, 429, "insufficient_quota", (DAY_MS - NOW % DAY_MS) // 1_000),
        (asked("tokens_per_day", 29), 0, 429, "insufficient_quota", None),
        (asked("max_in_flight", 2), 2, 429, "rate_limit_exceeded", 3),
        (asked("max_queued", 2), 2, 503, "queue_full", 3),
        (asked_of_model("big"), 400_000, 503, "model_unavailable", 120),
        (asked_of_model("big"), 1, 503, "model_unavailable", 1),
    ],
)
def test_what_each_kind_answers(each: Asked, used: int, status: int, code: str, retry_after_s: int | None) -> None:
    told = refusal(each, used)
    assert (told.status, told.code, told.retry_after_s) == (status, code, retry_after_s)


def test_a_model_that_is_out_of_service_is_told_without_a_guess_why() -> None:
    """Faults may have opened its breaker, or an operator: the quota does not say."""
    assert refusal(asked_of_model("big"), 2_000).message == "Model 'big' is out of service. Try again in 2 s."


def test_of_several_the_one_that_takes_longest_is_told() -> None:
    quotas = [asked("requests_per_minute", 60), asked("tokens_per_day", 40), asked("max_in_flight", 1)]
    told = refusal_of(quotas, Verdict(False, NOW, (60 * MINUTE_MS, 30, 1)), 3_000)
    assert told.lacks is Kind.DAY_TOKENS


def test_the_headers_tell_the_tightest() -> None:
    minute, day = "requests_per_minute", "tokens_per_day"
    quotas = [asked(minute, 60), asked(minute, 10, model="m"), asked(day, 50)]
    rates = rates_of(quotas, Verdict(True, NOW, (MINUTE_MS, 9 * MINUTE_MS + 1, 30)))
    assert rates.requests == Rate(10, 0, 54_001)
    assert rates.tokens == Rate(50, 20, DAY_MS - NOW % DAY_MS)
    assert rates_of([asked_of_model("m")], Verdict(True, NOW, (0,))) == NO_RATES


def test_of_what_it_was_judged_by_the_limits_of_its_tenant_are_told() -> None:
    quotas = [asked_of_model("m"), asked("requests_per_minute", 10, model="m"), asked_of_tier(Tier.BASIC, 9)]
    judged = judged_by(quotas, Verdict(True, NOW, (0, MINUTE_MS + 1, 4)))
    assert judged == (Judged("requests per minute", "tenant 'acme' for model 'm'", 2, 10),)
    assert judged_by([asked_of_model("m")], Verdict(True, NOW, (0,))) == ()


@given(st.integers(0, 2 * MOST_JUDGED))
def test_no_request_keeps_more_of_them_than_so_many(count: int) -> None:
    quotas = [asked("max_in_flight", 5, model=f"m{number}") for number in range(count)]
    judged = judged_by(quotas, Verdict(True, NOW, (1,) * count))
    assert len(judged) == min(count, MOST_JUDGED)

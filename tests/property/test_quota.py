"""Is a minute's quota exact, whatever the clock does, and is what a refusal says of it true?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.quota import (
    DAY_MS,
    HELD_FOR_MS,
    HOLD_MS,
    LARGEST_AMOUNT,
    MINUTE_MS,
    Kind,
    Quota,
    Use,
    counted_again,
    empty_after_ms,
    fits,
    room_after_ms,
    scaled,
    used_now,
    whole_used,
)
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support.messages import submission

START = 1_800_000_000_000
COUNTED = [kind for kind in Kind if kind is not Kind.BREAKER]


@given(
    most=st.integers(1, 1_000),
    calls=st.lists(st.tuples(st.integers(-5_000, 5_000), st.integers(1, 40)), min_size=1, max_size=60),
)
def test_no_more_is_admitted_than_rate_times_time_plus_burst_over_any_span(
    most: int, calls: list[tuple[int, int]]
) -> None:
    """Time is what the clock has gone forward: what it goes back gives nothing."""
    queue, now, passed = ReferenceQueue(), START, 0
    admitted: list[tuple[int, int]] = []
    for number, (step, amount) in enumerate(calls):
        now += step
        passed += max(0, step)
        quota = Quota("t:a", Kind.TOKENS, most, amount)
        if queue.admit(now, request=str(number), quotas=[quota]).admitted:
            admitted.append((passed, amount))
    for first, (since, _) in enumerate(admitted):
        taken = 0
        for until, amount in admitted[first:]:
            taken += amount
            assert taken * MINUTE_MS <= most * (until - since) + most * MINUTE_MS


@given(most=st.integers(1, 500), amount=st.integers(1, 500), spend=st.integers(0, 499))
def test_there_is_room_when_it_was_said_and_not_a_ms_before(most: int, amount: int, spend: int) -> None:
    queue = ReferenceQueue()
    queue.admit(START, request="first", quotas=[Quota("t:a", Kind.REQUESTS, most, min(spend, most))])
    quota = Quota("t:a", Kind.REQUESTS, most, amount)
    verdict = queue.admit(START, request="second", quotas=[quota])
    wait_ms = room_after_ms(quota, verdict.used[0], START)
    if verdict.admitted:
        assert wait_ms == 0 or not fits(quota, verdict.used[0])
        return
    if amount > most:
        assert wait_ms is None
        return
    assert wait_ms is not None
    assert wait_ms > 0
    assert not queue.admit(START + wait_ms - 1, request="third", quotas=[quota]).admitted
    assert queue.admit(START + wait_ms, request="third", quotas=[quota]).admitted


@given(kinds=st.sets(st.sampled_from(list(Kind)), min_size=1), most=st.integers(0, 9), coming=st.integers(1, 9))
def test_what_was_accepted_is_counted_again_however_full_it_is_and_given_back_at_its_end(
    kinds: set[Kind], most: int, coming: int
) -> None:
    queue = ReferenceQueue()
    quotas = [
        Quota("t:a", kind, 0 if kind is Kind.BREAKER else most, 0 if kind is Kind.BREAKER else 1) for kind in kinds
    ]
    lasting = kinds - {Kind.BREAKER, Kind.REQUESTS, Kind.TOKENS}
    for number in range(coming):
        assert queue.admit(START, request=str(number), quotas=counted_again(quotas)).admitted
    used = {kind: use.amount for (kind, _), use in queue.door.used.items()}
    assert used == dict.fromkeys(lasting, coming)
    one_more = [Quota("t:a", kind, most, 1) for kind in lasting]
    assert queue.admit(START, request="new", quotas=one_more).admitted == (not lasting or coming < most)
    for request in ("new", *map(str, range(coming))):
        queue.release(START, request=request)
    assert queue.door.used == {}


@given(
    kind=st.sampled_from(COUNTED),
    taken=st.integers(0, 1_000),
    others=st.integers(0, 1_000),
    wait_ms=st.integers(0, 10_000),
)
def test_what_is_given_back_leaves_what_would_be_there_without_it(
    kind: Kind, taken: int, others: int, wait_ms: int
) -> None:
    def used(*, with_it: bool) -> int:
        queue = ReferenceQueue()
        queue.admit(START, request="other", quotas=[Quota("a", kind, 5_000, others)])
        if with_it:
            queue.admit(START, request="it", quotas=[Quota("a", kind, 5_000, taken)])
            assert queue.release(START + wait_ms, request="it") == 1
            assert queue.release(START + wait_ms, request="it") == 0
        return queue.admit(START + wait_ms, request="look", quotas=[Quota("a", kind, 5_000, 0)]).used[0]

    assert used(with_it=True) == used(with_it=False)


@given(estimate=st.integers(0, 100), actual=st.integers(0, 100))
def test_the_difference_between_estimate_and_use_is_settled(estimate: int, actual: int) -> None:
    queue = ReferenceQueue()
    kinds = (Kind.TOKENS, Kind.DAY_TOKENS, Kind.DAY_GPU_MS, Kind.REQUESTS, Kind.FLIGHT)
    queue.admit(START, request="it", quotas=[Quota("a", kind, 1_000, estimate) for kind in kinds])
    queue.release(START, request="it", spent={"tokens": actual, "gpu_ms": actual + 1})
    looks = [Quota("a", kind, 1_000, 0) for kind in kinds]
    used = queue.admit(START, request="look", quotas=looks).used
    assert [whole_used(look, use) for look, use in zip(looks, used, strict=True)] == [
        actual,
        actual,
        actual + 1,
        estimate,
        0,
    ]


def test_what_is_queued_does_not_lapse_and_what_is_not_does() -> None:
    queue, quota = ReferenceQueue(), Quota("t:a", Kind.FLIGHT, 2, 1)
    for request in ("queued", "lost"):
        queue.admit(START, request=request, quotas=[quota])
    assert queue.submit(START, **submission("tag", task="queued", admitted=True)) == 1
    assert queue.submit(START, **submission("other", task="nobody", admitted=True)) == -1
    assert queue.lapse(START + HOLD_MS - 1, limit=9) == ()
    assert queue.lapse(START + HOLD_MS, limit=9) == ("lost",)
    assert queue.lapse(START + HOLD_MS + HELD_FOR_MS, limit=9) == ()
    assert queue.withdraw(task="queued") == 1
    assert not queue.door.used


def test_one_quota_too_many_takes_nothing_of_the_others() -> None:
    queue = ReferenceQueue()
    quotas = [Quota("t:a", Kind.REQUESTS, 5, 1), Quota("t:a", Kind.DAY_TOKENS, 5, 6), Quota("t:a", Kind.FLIGHT, 5, 1)]
    assert not queue.admit(START, request="it", quotas=quotas).admitted
    assert not queue.door.used
    assert not queue.door.holds


def test_a_day_ends_at_midnight_and_a_clock_that_goes_back_brings_none_again() -> None:
    midnight = START - START % DAY_MS
    spent = Use(7, midnight)
    assert used_now(midnight + DAY_MS - 1, Kind.DAY_TOKENS, 9, spent) == spent
    assert used_now(midnight + DAY_MS, Kind.DAY_TOKENS, 9, spent) == Use(0, midnight + DAY_MS)
    assert used_now(midnight - 1, Kind.DAY_TOKENS, 9, spent) == spent
    assert used_now(midnight - DAY_MS - 1, Kind.DAY_TOKENS, 9, spent) == Use(7, midnight - 2 * DAY_MS)


def test_what_is_queued_is_what_was_accepted_and_does_not_run() -> None:
    queue = ReferenceQueue()
    quota = Quota("t:a", Kind.QUEUE, 2, 1)
    assert [queue.admit(START, request=each, quotas=[quota]).admitted for each in "abc"] == [True, True, False]
    queue.standing.limits.running["t:a"] = 1
    assert queue.admit(START, request="c", quotas=[quota]).used == (2,)


@pytest.mark.parametrize(
    ("quota", "used", "expected"),
    [
        (Quota("a", Kind.FLIGHT, 1, 1), 1, None),
        (Quota("a", Kind.QUEUE, 1, 1), 1, None),
        (Quota("m:x", Kind.BREAKER, 0, 0), 700, 700),
        (Quota("a", Kind.DAY_TOKENS, 5, 2), 4, DAY_MS - START % DAY_MS),
        (Quota("a", Kind.DAY_TOKENS, 5, 6), 0, None),
        (Quota("a", Kind.TOKENS, 0, 1), 0, None),
        (Quota("a", Kind.TOKENS, 60, 1), 60 * MINUTE_MS, 1_000),
    ],
)
def test_when_there_is_room_again(quota: Quota, used: int, expected: int | None) -> None:
    assert room_after_ms(quota, used, START) == expected


def test_figures_of_the_headers() -> None:
    minute, day = Quota("a", Kind.TOKENS, 60, 1), Quota("a", Kind.DAY_TOKENS, 60, 1)
    assert (whole_used(minute, MINUTE_MS + 1), whole_used(day, 7)) == (2, 7)
    assert empty_after_ms(minute, 30 * MINUTE_MS, START) == 30_000
    assert empty_after_ms(day, 7, START) == DAY_MS - START % DAY_MS
    assert scaled(Kind.REQUESTS, LARGEST_AMOUNT) * 2 < 2**53

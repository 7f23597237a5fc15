"""Does a breaker open on faults alone, let a few probes in, and close when they were served?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.breaker import (
    FIRST_PAUSE_MS,
    FORGOTTEN_MS,
    LONGEST_PAUSE_MS,
    PROBE_MS,
    PROBES,
    SOUND,
    TRANSITIONS,
    UNTRIED_MS,
    Breaker,
    Event,
    State,
    failed,
    looked_at,
    model_breaker,
    most_running,
    moved,
    opens_after_ms,
    replica_breaker,
    served,
    tripped,
)
from qosqueue.policy.order import LONGEST_MS

START = 1_800_000_000_000
ENDS = st.lists(st.tuples(st.booleans(), st.integers(0, 20_000)), max_size=60)


def faults(count: int, now: int = START, breaker: Breaker = SOUND) -> Breaker:
    for _ in range(count):
        breaker = failed(breaker, now)
    return breaker


@given(ENDS)
def test_every_step_is_one_of_the_table_and_every_state_leads_back_to_closed(ends: list[tuple[bool, int]]) -> None:
    breaker, now = SOUND, START
    for was_served, wait_ms in ends:
        now += wait_ms
        for ends_here in (False, True):
            after = breaker if ends_here else looked_at(breaker, now)
            if ends_here:
                after = served(breaker) if was_served else failed(breaker, now)
            assert after.state is breaker.state or after.state in TRANSITIONS[breaker.state].values()
            assert (most_running(after) is None) == (after.state is State.CLOSED)
            assert (opens_after_ms(after, now) == 0) == (
                after.state is State.CLOSED or (after.state is State.HALF_OPEN and after.let_in < PROBES)
            )
            assert after.pause_ms <= LONGEST_PAUSE_MS
            breaker = after
    breaker = looked_at(breaker, now + LONGEST_PAUSE_MS)
    for _ in range(max(PROBES, breaker.score)):
        breaker = served(breaker)
    assert breaker == SOUND


@given(st.lists(st.integers(0, FORGOTTEN_MS), min_size=20, max_size=100))
def test_one_fault_in_four_never_opens_it(waits: list[int]) -> None:
    breaker, now = SOUND, START
    for wait_ms in waits:
        now += wait_ms
        breaker = failed(breaker, now)
        for _ in range(3):
            breaker = served(breaker)
        assert breaker.state is State.CLOSED


def test_five_faults_in_a_row_open_it_and_old_ones_do_not_count() -> None:
    assert faults(4).state is State.CLOSED
    assert faults(5).state is State.OPEN
    assert faults(1, START + FORGOTTEN_MS + 1, faults(4)).state is State.CLOSED
    assert faults(1, START + FORGOTTEN_MS, faults(4)).state is State.OPEN


def test_a_probe_that_fails_doubles_the_pause_up_to_a_bound() -> None:
    breaker, now, pauses = faults(5), START, []
    for _ in range(6):
        pauses.append(breaker.until - now)
        now = breaker.until
        breaker = failed(looked_at(breaker, now), now)
    assert pauses == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]


def test_what_ends_while_it_is_open_says_nothing() -> None:
    breaker = faults(5)
    assert served(breaker) == failed(breaker, START + 1) == breaker


def test_a_clock_that_goes_back_makes_no_wait_longer() -> None:
    breaker = faults(5)
    back = looked_at(breaker, START - 3_600_000)
    assert opens_after_ms(back, START - 3_600_000) == FIRST_PAUSE_MS
    half = looked_at(breaker, breaker.until)
    assert looked_at(half, START - 3_600_000).until == START - 3_600_000 + PROBE_MS
    assert looked_at(half, half.until - 1) == half


def test_an_operator_opens_it_for_a_time_or_for_good() -> None:
    assert tripped(SOUND, START, 700).until == START + 700
    for_good = tripped(SOUND, START, 0)
    assert looked_at(for_good, START + LONGEST_MS - 1).state is State.OPEN
    assert opens_after_ms(for_good, START) == LONGEST_MS
    assert tripped(looked_at(faults(5), START + FIRST_PAUSE_MS), START, 9).state is State.OPEN


def test_a_breaker_that_nobody_tries_is_forgotten() -> None:
    half = looked_at(faults(5), START + FIRST_PAUSE_MS)
    assert looked_at(half, half.since + UNTRIED_MS).state is State.HALF_OPEN
    assert looked_at(half, half.since + UNTRIED_MS + 1) == SOUND


def test_an_illegal_move_raises() -> None:
    with pytest.raises(KeyError):
        moved(SOUND, Event.PROBES_SERVED)


def test_names_do_not_meet() -> None:
    assert model_breaker("a:b") == "m:a:b"
    assert replica_breaker("w:1", "m") != replica_breaker("w", "1:m")

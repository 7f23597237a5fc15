"""Does the road go as its tenant's policy says, and has a request the attempts that its target needs?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.road import (
    DEFAULT_ATTEMPTS,
    LEAST_ATTEMPTS,
    MOST_ATTEMPTS,
    Trouble,
    attempts_for,
    is_tried_again,
    shortened,
    steps,
    trouble_of,
)
from qosqueue.policy.terms import RoadStep, TaskType

ROADS = st.one_of(st.none(), st.lists(st.sampled_from(RoadStep), unique=True))


@given(ROADS, st.sampled_from(Trouble))
def test_steps_keep_the_order_and_end_where_it_rejects(road: list[RoadStep] | None, trouble: Trouble) -> None:
    found = steps(road, trouble)
    assert RoadStep.REJECT not in found
    assert RoadStep.RETRY not in found
    if road is not None:
        before = road[: road.index(RoadStep.REJECT)] if RoadStep.REJECT in road else road
        assert list(found) == [step for step in before if step in found]


@given(st.integers(1, 10**6))
def test_a_degraded_answer_is_shorter_or_none(tokens: int) -> None:
    shorter = shortened(tokens)
    assert shorter is None or 1 <= shorter < tokens


@given(st.sampled_from(TaskType), st.integers(1, 100), st.integers(1, 100))
def test_a_higher_target_never_gets_fewer_attempts(task_type: TaskType, one: int, other: int) -> None:
    lower, higher = sorted((one, other))
    assert 1 <= attempts_for(task_type, lower) <= attempts_for(task_type, higher) <= MOST_ATTEMPTS


@given(st.integers(1, 99))
def test_the_target_is_met_at_one_failure_in_ten_and_not_with_one_attempt_less(percent: int) -> None:
    attempts = attempts_for(TaskType.ONLINE, percent)
    assert 100 * (1 - 0.1**attempts) >= percent - 1e-9
    assert attempts == LEAST_ATTEMPTS or 100 * (1 - 0.1 ** (attempts - 1)) < percent


@pytest.mark.parametrize(("percent", "attempts"), [(50, 2), (90, 2), (99, 2), (100, MOST_ATTEMPTS)])
def test_attempts_of_a_target(percent: int, attempts: int) -> None:
    assert attempts_for(TaskType.BATCH, percent) == attempts


def test_defaults() -> None:
    assert {each: attempts_for(each, None) for each in TaskType} == DEFAULT_ATTEMPTS
    assert steps(None, Trouble.MODEL) == (RoadStep.FALLBACK,)
    assert steps((RoadStep.DEGRADE, RoadStep.FALLBACK), Trouble.LATE) == (RoadStep.DEGRADE, RoadStep.FALLBACK)
    assert is_tried_again(None)
    assert not is_tried_again((RoadStep.FALLBACK,))


def test_troubles() -> None:
    assert trouble_of("model_unavailable") is trouble_of("engine_failed") is Trouble.MODEL
    assert trouble_of("rate_limit_exceeded", of_tokens=True) is Trouble.TOKENS
    assert trouble_of("rate_limit_exceeded") is None

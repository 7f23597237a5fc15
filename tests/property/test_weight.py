"""Does a model weigh what its memory, its parameters and its measured steps say, the heavier verdict first?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.terms import WEIGHT_CLASSES, WeightClass
from qosqueue.policy.weight import GB, Weighed, WeightBasis, in_words, weigh

LIGHT, MEDIUM, HEAVY = WEIGHT_CLASSES
SIZES = st.integers(0, 20 * GB)
STEPS = st.none() | st.integers(0, 1_000)
PARAMETERS = st.none() | st.integers(1, 10**11)


@pytest.mark.parametrize(
    ("memory", "step_ms", "expected"),
    [
        (0, None, LIGHT),
        (GB - 1, None, LIGHT),
        (GB, None, MEDIUM),
        (6 * GB, None, MEDIUM),
        (6 * GB + 1, None, HEAVY),
        (1, 9, LIGHT),
        (1, 10, MEDIUM),
        (1, 20, MEDIUM),
        (1, 100, MEDIUM),
        (1, 101, HEAVY),
        (8 * GB, 1, HEAVY),
    ],
)
def test_the_heavier_verdict_counts_and_the_heavier_class_between_the_ranges(
    memory: int, step_ms: int | None, expected: WeightClass
) -> None:
    assert weigh(memory, measured_ms=step_ms).weight_class is expected


@given(SIZES, PARAMETERS, STEPS, st.integers(0, 20 * GB), st.integers(0, 1_000))
def test_more_is_never_lighter(
    memory: int, parameters: int | None, step_ms: int | None, more: int, slower: int
) -> None:
    def level(weighed: Weighed) -> int:
        return WEIGHT_CLASSES.index(weighed.weight_class)

    weight = level(weigh(memory, parameters, step_ms))
    assert memory == 0 or weight <= level(weigh(memory + more, parameters, step_ms))
    assert parameters is None or weight <= level(weigh(memory, parameters + more, step_ms))
    assert weight <= level(weigh(memory, parameters, (step_ms or 0) + slower))


@given(PARAMETERS, STEPS)
def test_parameters_stand_for_a_memory_that_is_not_known(parameters: int | None, step_ms: int | None) -> None:
    guessed = weigh(0, parameters, step_ms)
    assert guessed.weight_class is weigh(2 * (parameters or 0), None, step_ms).weight_class
    assert weigh(GB, parameters, step_ms) == weigh(GB, None, step_ms)
    assert (guessed.basis is WeightBasis.PARAMETERS) == (
        parameters is not None and guessed.basis is not WeightBasis.MEASURED
    )


@pytest.mark.parametrize(
    ("memory", "parameters", "step_ms", "told"),
    [
        (1_500_000_000, None, 5, "medium: it takes 1.5 GB of memory (light is below 1 GB, medium up to 6 GB)"),
        (0, 7_000_000_000, None, "heavy: 7000000000 parameters take about 14.0 GB (light is"),
        (0, None, 120, "heavy: a step was measured to take 120 ms (light is below 10 ms, medium up to 100 ms)"),
    ],
)
def test_the_basis_is_told_in_words(memory: int, parameters: int | None, step_ms: int | None, told: str) -> None:
    assert in_words(weigh(memory, parameters, step_ms), memory, parameters, step_ms).startswith(told)


def test_a_given_class_is_told_as_given() -> None:
    assert in_words(Weighed(LIGHT, WeightBasis.GIVEN), GB, None, None) == "light: it was given"

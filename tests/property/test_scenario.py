"""Does a learned budget stay within its bounds, settle where nine of ten begin in time, and shrug off an outlier?"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.scenario import ABOVE, PART, Bounds, bounds, next_budget_ms
from qosqueue.policy.terms import MAX_BUDGET_MS

TIMES = st.integers(0, MAX_BUDGET_MS)
BUDGETS = st.integers(1, MAX_BUDGET_MS)
DEFAULTS = st.sampled_from([each for tiers in DEFAULT_BUDGET_MS.values() for each in tiers.values()])
FREE = Bounds(1, MAX_BUDGET_MS)


@st.composite
def any_bounds(draw: st.DrawFn) -> Bounds:
    lower, upper = sorted((draw(BUDGETS), draw(BUDGETS)))
    return bounds(draw(DEFAULTS), draw(st.sampled_from([None, lower])), draw(st.sampled_from([None, upper])))


def after(budget_ms: int, seen: list[int], within: Bounds = FREE) -> int:
    for seen_ms in seen:
        budget_ms = next_budget_ms(budget_ms, seen_ms, within)
    return budget_ms


@given(BUDGETS, st.lists(TIMES, min_size=1), any_bounds())
def test_never_beyond_the_bounds(budget_ms: int, seen: list[int], within: Bounds) -> None:
    assert 1 <= within.lower_ms <= within.upper_ms
    assert within.lower_ms <= after(budget_ms, seen, within) <= within.upper_ms


@given(DEFAULTS, BUDGETS, BUDGETS)
def test_a_bound_that_was_set_is_kept_and_the_default_fits_into_those_that_were_not(
    default_ms: int, lower_ms: int, upper_ms: int
) -> None:
    assert bounds(default_ms, None, None) == Bounds(default_ms // 2, 2 * default_ms)
    assert bounds(default_ms, None, upper_ms).upper_ms == upper_ms
    assert bounds(default_ms, lower_ms, None).lower_ms == lower_ms


@given(BUDGETS, st.integers(1, 100_000))
def test_what_is_always_the_same_is_reached_and_kept(budget_ms: int, seen_ms: int) -> None:
    # A step changes the budget by a 256th at least: ln(86,400,000) * 256 of them, and 256 of 1 ms at the end.
    settled = after(budget_ms, [seen_ms] * 6_000)
    assert settled == seen_ms
    assert after(settled, [seen_ms]) == seen_ms


@settings(max_examples=30)
@given(st.permutations([True] * 2 + [False] * 18), st.integers(300, 100_000), st.integers(1, 10))
def test_settles_between_what_nine_of_ten_take_and_what_the_tenth_takes(
    slow: list[bool], fast_ms: int, factor: int
) -> None:
    # Of 20 requests two are slow: one in ten.
    slow_ms = fast_ms + fast_ms * factor // 4
    settled = after(fast_ms, [slow_ms if each else fast_ms for each in slow] * 400)
    unit = fast_ms // PART + 1
    assert fast_ms - unit <= settled <= slow_ms
    fewer = after(settled, ([slow_ms] + [fast_ms] * 39) * 400)
    assert fewer <= fast_ms + ABOVE * 2 * unit, "one in forty does not count"


@given(BUDGETS, TIMES, any_bounds())
def test_one_outlier_moves_little_however_far_it_lies(budget_ms: int, seen_ms: int, within: Bounds) -> None:
    start_ms = within.held(budget_ms)
    moved = next_budget_ms(start_ms, seen_ms, within)
    assert abs(moved - start_ms) <= max(ABOVE, ABOVE * start_ms // PART)
    assert (moved - start_ms) * (seen_ms - start_ms) >= 0, "towards what was seen, or not at all"
    assert min(start_ms, seen_ms) <= moved <= max(start_ms, seen_ms), "and never past it"

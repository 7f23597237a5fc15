"""Is the risk a probability, and does it move the right way with what is known?"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.risk import (
    CERTAIN,
    MOST_SIGN,
    Line,
    Signs,
    Weights,
    ahead_ms,
    fresh_key_ms,
    learned,
    risk,
    signs,
)
from qosqueue.policy.terms import Tier

NOW = 1_800_000_000_000
SPAN = st.integers(-(10**7), 10**7)
WORK = st.integers(0, 2**50)
LINES = st.lists(st.builds(Line, st.integers(0, 10**6), SPAN.map(NOW.__add__), SPAN.map(NOW.__add__)), max_size=9)
ANY = st.floats(-MOST_SIGN, MOST_SIGN)
SIGNS = st.builds(Signs, st.floats(0, MOST_SIGN), ANY)
OUTCOMES = st.lists(st.tuples(SIGNS, st.booleans()), max_size=200)
WEIGHTS = st.builds(Weights, st.floats(-1e4, 1e4), st.floats(0, 1e4), st.floats(0, 1e4))


@given(SPAN, SPAN, WORK, st.integers(0, order.MOST_SLOTS), st.integers(0, 10**8), WEIGHTS)
def test_it_is_a_probability(key: int, slack: int, ahead: int, slots: int, longest: int, weights: Weights) -> None:
    seen = signs(NOW, NOW + key, NOW + slack, ahead, slots, longest)
    assert 0 <= seen.wait <= MOST_SIGN >= abs(seen.place)
    assert 0 <= risk(seen, weights) <= 1


@given(
    key=SPAN,
    slack=SPAN,
    ahead=WORK,
    slots=st.integers(0, order.MOST_SLOTS),
    longest=st.integers(1, 10**8),
    more=st.integers(0, 10**7),
    outcomes=OUTCOMES,
)
def test_more_work_ahead_a_later_key_less_slack_and_fewer_slots_never_lower_it(
    key: int, slack: int, ahead: int, slots: int, longest: int, more: int, outcomes: list[tuple[Signs, bool]]
) -> None:
    weights = Weights()
    for seen, late in outcomes:
        weights = learned(weights, seen, late=late)

    def of(key: int = key, slack: int = slack, ahead: int = ahead, slots: int = slots) -> float:
        return risk(signs(NOW, NOW + key, NOW + slack, ahead, slots, longest), weights)

    assert of(ahead=ahead + more) >= of()
    assert of(key=key + more) >= of()
    assert of(slack=slack + more) <= of()
    assert of(slots=slots + more) <= of()


@given(LINES, SPAN, st.integers(0, 10**6), st.integers(1, order.LARGEST_COST_MS))
def test_work_ahead_is_part_of_what_waits_and_grows_with_the_key(
    lines: list[Line], key: int, more: int, mean: int
) -> None:
    ahead = ahead_ms(NOW + key, lines, mean)
    assert 0 <= ahead <= ahead_ms(NOW + key + more, lines, mean) <= sum(line.waiting for line in lines) * mean
    longer = [replace(line, waiting=line.waiting + 1) for line in lines]
    assert ahead <= ahead_ms(NOW + key, longer, mean)


def test_keys_are_taken_to_lie_evenly_between_the_first_and_a_fresh_one() -> None:
    lines = [Line(10, NOW, NOW + 1_000), Line(4, NOW + 500, NOW + 2_500)]
    assert ahead_ms(NOW, lines, 100) == 0
    assert ahead_ms(NOW + 500, lines, 100) == 500
    assert ahead_ms(NOW + 1_500, lines, 100) == 1_000 + 200
    assert ahead_ms(NOW + 9_999, lines, 100) == 1_400


def test_a_fresh_key_is_that_of_a_mean_request() -> None:
    terms = order.pool_terms(64, 4_000, {Tier.VIP: 1_000, Tier.STANDARD: 3_000, Tier.BASIC: 10_000})
    assert fresh_key_ms(NOW, 9, 10_000, terms) == order.key_ms(NOW, 9, 10_000, 4_000, terms.size_q10, 0)


def test_an_empty_pool_is_no_risk_and_a_missed_instant_is_certain() -> None:
    vip = signs(NOW, NOW + 500, NOW + 1_000, ahead_ms=0, slots=64, longest_ms=10_000)
    assert risk(vip, Weights()) < 0.001
    over = signs(NOW, NOW - 500, NOW, ahead_ms=0, slots=64, longest_ms=10_000)
    assert over == CERTAIN
    assert risk(over, Weights()) > 0.999


@given(SIGNS, WEIGHTS, st.booleans())
def test_an_outcome_moves_the_risk_toward_itself(seen: Signs, weights: Weights, late: bool) -> None:
    before, after = risk(seen, weights), risk(seen, learned(weights, seen, late=late))
    if late:
        assert after >= before
    else:
        assert after <= before


@given(WEIGHTS, OUTCOMES)
def test_no_outcome_makes_more_work_good(weights: Weights, outcomes: list[tuple[Signs, bool]]) -> None:
    for seen, late in outcomes:
        weights = learned(weights, seen, late=late)
    assert min(weights.wait, weights.place) >= 0

"""Does drawn work bring what was asked, and the same again?"""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.terms import Tier
from scripts.bench.sim.shapes import STEADY, Shape, diurnal, flood, spike
from scripts.bench.sim.tenants import BUDGETS_MS, DEFAULT_MIX, Tenant, compose
from scripts.bench.sim.work import Scale, Work, synthetic

SCALE = Scale(requests=4_000)
STEPS = st.lists(st.floats(0.1, 5), min_size=1, max_size=5).map(
    lambda factors: Shape(tuple((1_000 * index, factor) for index, factor in enumerate(factors)))
)


def drawn(load: float = 1.2, seed: int = 1, sigma: float = 0.6) -> Work:
    return synthetic(compose(DEFAULT_MIX, load, seed), Scale(requests=4_000, sigma=sigma), seed)


def told(work: Work) -> list[tuple[object, ...]]:
    return [
        (one.id, one.tenant, one.tier, one.arrival_ms, one.service_ms, one.predicted_ms, one.prompt_tokens)
        for one in work.requests
    ]


def test_a_seed_gives_the_same_requests_and_another_seed_others() -> None:
    assert told(drawn()) == told(drawn())
    assert told(drawn()) != told(drawn(seed=2))


@pytest.mark.parametrize("load", [0.3, 0.95, 1.5])
def test_the_load_is_what_was_asked(load: float) -> None:
    work = drawn(load)
    brought = sum(one.service_ms for one in work.requests) / (work.pool.slots * work.span_ms)
    assert brought == pytest.approx(load, rel=0.001)
    assert work.pool.mean_service_ms == pytest.approx(SCALE.mean_service_ms, rel=0.1)


def test_requests_are_in_order_of_arrival_with_ids_from_0_and_their_tier_s_budget() -> None:
    requests = drawn().requests
    assert [one.id for one in requests] == list(range(len(requests)))
    assert all(first.arrival_ms <= second.arrival_ms for first, second in pairwise(requests))
    assert all(one.budget_ms == BUDGETS_MS[one.tier] and one.arrival_ms >= 0 for one in requests)


def test_a_higher_load_brings_the_same_lengths_faster() -> None:
    slow, fast = drawn(0.5), drawn(1.0)
    assert Counter(one.output_tokens for one in slow.requests) == Counter(one.output_tokens for one in fast.requests)
    assert slow.span_ms == 2 * fast.span_ms


def test_tiers_bring_their_parts() -> None:
    work = synthetic(compose(DEFAULT_MIX, 1.0, 1), Scale(requests=40_000), 1)
    whole = sum(one.service_ms for one in work.requests)
    for tier, part in DEFAULT_MIX.parts.items():
        brought = sum(one.service_ms for one in work.requests if one.tier is tier)
        assert brought / whole == pytest.approx(part, abs=0.04)


def test_predictions_are_exact_without_error_and_spread_with_it() -> None:
    assert all(one.predicted_ms == one.service_ms for one in drawn(sigma=0).requests)
    ratios = [one.predicted_ms / one.service_ms for one in drawn().requests]
    assert statistics.median(ratios) == pytest.approx(1, abs=0.05)
    assert statistics.quantiles(ratios, n=100)[83] == pytest.approx(2.718**0.6, rel=0.1)


@pytest.mark.parametrize("cv", [1.0, 3.0])
def test_gaps_have_the_cv_that_was_asked(cv: float) -> None:
    work = synthetic([Tenant("only", Tier.BASIC, 0.5, cv=cv)], Scale(requests=40_000), 3)
    gaps = [
        second.arrival_ms - first.arrival_ms for first, second in zip(work.requests, work.requests[1:], strict=False)
    ]
    assert statistics.pstdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.1)


def test_a_flood_multiplies_the_rate_from_its_begin() -> None:
    from_ms = 500_000
    scale = Scale(requests=20_000)
    shapes = {"only": flood(4, from_ms)}
    work = synthetic([Tenant("only", Tier.BASIC, 0.5)], scale, 3, shapes=shapes, span_ms=1_000_000)
    before = sum(one.arrival_ms < from_ms for one in work.requests)
    assert (len(work.requests) - before) / before == pytest.approx(4, rel=0.1)


@given(STEPS, st.integers(1, 8_000))
def test_arrivals_of_even_operational_time_follow_the_factors(shape: Shape, end_ms: int) -> None:
    whole = shape.work_until(end_ms)
    instants = [whole * (index + 0.5) / 200 for index in range(220)]
    arrivals = list(shape.arrivals(instants, end_ms))
    assert arrivals == sorted(arrivals)
    assert len(arrivals) in (199, 200, 201)
    assert all(0 <= at_ms < end_ms for at_ms in arrivals)
    for at_ms, instant in zip(arrivals, instants, strict=False):
        assert shape.work_until(at_ms) <= instant + 1e-6
        assert shape.work_until(at_ms + 1) >= min(instant, whole) - 1e-6


def test_named_shapes_keep_their_words() -> None:
    day = diurnal(96_000)
    factors = [factor for _, factor in day.steps]
    assert day.work_until(96_000) == pytest.approx(96_000)
    assert max(factors) / min(factors) == pytest.approx(2.5, rel=0.01)
    burst = spike(10_000)
    assert [burst.factor_at(at_ms) for at_ms in (9_999, 10_000, 39_999, 40_000)] == [1, 10, 10, 1]
    assert STEADY.factor_at(0) == STEADY.factor_at(10**9) == 1

"""Is the clairvoyant bound never below what a schedule reaches, and near it where that is easy?"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosqueue.policy.terms import Tier
from scripts.bench.policies.interface import Request
from scripts.bench.policies.registry import POLICIES
from scripts.bench.sim.loop import run
from scripts.bench.sim.oracle import bound
from scripts.bench.sim.slots import Slots
from scripts.bench.sim.tally import by_tier, in_slo
from scripts.bench.sim.tenants import DEFAULT_MIX, compose
from scripts.bench.sim.work import Scale, synthetic
from tests.support.simulated import request, work_of

FEW = st.lists(
    st.tuples(st.integers(0, 8_000), st.integers(1, 6_000), st.integers(0, 4_000)), min_size=1, max_size=6
).map(
    lambda rows: [
        request(number, arrival, service, budget_ms=budget)
        for number, (arrival, service, budget) in enumerate(sorted(rows))
    ]
)


def best_of_one_slot(requests: list[Request]) -> int:
    """By trying all orders: one slot, each request as early as it may, none that would be late."""
    best = 0
    for order in itertools.permutations(requests):
        free_ms, begun = 0, 0
        for one in order:
            start = max(free_ms, one.arrival_ms)
            if start - one.arrival_ms <= one.budget_ms:
                free_ms, begun = start + one.service_ms, begun + 1
        best = max(best, begun)
    return best


@given(FEW)
@settings(max_examples=60, deadline=None)
def test_no_order_of_one_slot_beats_the_bound(requests: list[Request]) -> None:
    assert bound(work_of(requests, 1), steps=60) * len(requests) >= best_of_one_slot(requests) - 1e-9


def test_what_fits_is_bounded_by_all() -> None:
    requests = [request(number, 2_000 * number, 1_000) for number in range(20)]
    assert bound(work_of(requests, 1)) == pytest.approx(1)


def test_equal_requests_at_once_are_bounded_by_the_slots() -> None:
    requests = [request(number, 0, 60_000, budget_ms=0) for number in range(30)]
    assert bound(work_of(requests, 10)) == pytest.approx(1 / 3, abs=0.02)


def test_keeping_a_tier_costs_what_it_takes() -> None:
    vip = [request(0, 0, 30_000, budget_ms=0, tier=Tier.VIP)]
    short = [request(1 + number, 3_000 * number, 3_000, budget_ms=0, tier=Tier.BASIC) for number in range(10)]
    work = work_of([*vip, *short], 1)
    assert bound(work) == pytest.approx(10 / 11, abs=0.02)
    assert bound(work, keeping=Tier.VIP, steps=1_500) == pytest.approx(1 / 11, abs=0.02)


def test_no_rule_beats_the_bound() -> None:
    work = synthetic(compose(DEFAULT_MIX, 1.2, 4), Scale(slots=16, requests=3_000), 4)
    limit = bound(work)
    assert limit < 1
    for name in ("fifo", "edf", "qoserve"):
        assert in_slo(by_tier(work, run(POLICIES[name](work.pool), work.requests, Slots(16)))) <= limit

"""Is the key that sorts a request exact, bounded, and what the rule says? And the ordered set that keeps it?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.terms import Tier
from tests.support.ordering import BUDGETS, NOW, VIP


@given(
    arrival=st.integers(0, 2**41),
    priority=st.integers(0, 9),
    budget=st.sampled_from([0, 1, 3_000, order.LONGEST_MS]),
    cost=st.integers(0, order.LARGEST_COST_MS),
    size=st.integers(0, order.Q20),
    penalty=st.integers(0, 2**51),
)
def test_a_score_is_an_exact_double(
    arrival: int, priority: int, budget: int, cost: int, size: int, penalty: int
) -> None:
    """Redis keeps scores as doubles: one that loses a bit would merge or swap two messages."""
    key = order.key_ms(arrival, priority, budget, cost, size, penalty)
    score = key * order.SAME_MS + order.SAME_MS - 1
    assert int(float(score)) == score < 2**53
    assert key >= min(arrival, order.LATEST_KEY_MS)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 200_000), st.integers(0, 10**6))
def test_a_plain_task_waits_longer_for_each_priority_but_not_for_ever(
    priority: int, other: int, later_ms: int, cost_ms: int
) -> None:
    """Who came so many steps of priority earlier is first, whatever either costs."""
    first = order.key_ms(NOW, priority, 0, cost_ms, 500, 0)
    second = order.key_ms(NOW + later_ms, other, 0, 0, 500, 0)
    assert (first <= second) == (later_ms >= order.PLAIN_STEP_MS * (priority - other))


@given(st.integers(1, order.LARGEST_COST_MS), st.integers(0, order.LARGEST_COST_MS))
def test_vip_is_not_sorted_by_size(cost: int, other: int) -> None:
    assert order.key_ms(NOW, VIP, 1_000, cost, 500, 0) == order.key_ms(NOW, VIP, 1_000, other, 500, 0)


@given(st.integers(0, 2**60), st.integers(1, 10**9))
def test_terms_stay_in_their_bounds(slots: int, mean_ms: int) -> None:
    terms = order.pool_terms(slots, mean_ms, {Tier.VIP: 1, Tier.STANDARD: 2**40, Tier.BASIC: 2**40})
    assert terms.slots <= order.MOST_SLOTS
    assert order.LARGEST_EXCESS * terms.slope_q20 < 2**53
    assert order.LARGEST_COST_MS * terms.size_q10 < 2**53
    assert terms.slots * order.Q10 * terms.burst_ms < 2**53
    assert terms.slots == 0 or terms.spare < terms.slots


def test_only_a_large_pool_leaves_a_slot_free_of_batch() -> None:
    assert [order.pool_terms(slots, 4_000, BUDGETS).spare for slots in (0, 1, 15, 16, 64)] == [0, 0, 0, 1, 1]


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20), st.booleans()), max_size=200), st.integers(0, 20)
)
def test_an_ordered_set_is_a_sorted_dictionary(steps: list[tuple[str, int, bool]], bound: int) -> None:
    ours, plain = OrderedSet(), {}
    for member, score, add in steps:
        if add:
            ours.add(member, score)
            plain[member] = score
        else:
            ours.remove(member)
            plain.pop(member, None)
    in_order = sorted((score, member) for member, score in plain.items())
    assert ours.first() == (in_order[0] if in_order else None)
    assert ours.up_to(bound, 3) == [member for score, member in in_order if score <= bound][:3]
    assert dict(ours.items()) == plain
    assert len(ours) == len(plain)


def test_an_ordered_set_forgets_what_was_moved() -> None:
    ours = OrderedSet()
    with pytest.raises(IndexError, match="empty"):
        ours.top()
    for score in range(1_000):
        ours.add("a", score)
    assert len(ours._heap) < 100
    assert ours.first() == (999, "a")

"""What becomes of who is late? Floors, missed budgets and boosts, checked on the reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.message import Stand
from tests.support.ordering import BASIC, NOW, STANDARD, VIP, request, tag_of, with_pool


def test_what_can_no_longer_start_in_time_stands_behind_all_that_can_and_is_served_by_tier() -> None:
    queue = with_pool()
    step = order.RELEGATED_STEP_MS
    request(queue, NOW, "basic old")
    request(queue, NOW + step, "standard", STANDARD)
    for number in range(2):
        request(queue, NOW + step + number, f"basic{number}")
    request(queue, NOW + 3 * step, "fresh")
    # A lower tier stands a step behind, so what is older than that goes first.
    started = [tag_of(queue, NOW + 3 * step) for _ in range(5)]
    assert started == ["fresh", "basic old", "standard", "basic0", "basic1"]


def test_relegated_work_of_a_low_tier_is_not_passed_for_ever_in_a_lane_of_all_tiers() -> None:
    """A host project has one lane for all priorities: late work of a higher tier may come all the time there."""
    queue = with_pool()
    lane = {"lane": "celery", "budget_ms": 1_000, "cost_ms": 4_000}
    request(queue, NOW, "late", BASIC, **lane)
    for number in range(2_000):
        now = NOW + 5_000 * number
        request(queue, now, f"also late {number}", STANDARD, **lane)
        request(queue, now + 2_000, f"fresh {number}", VIP, tenant=f"{number}", **lane)
        if tag_of(queue, now + 2_000, [("celery", "m")]) == "late":
            return
    raise AssertionError("it was passed over 2,000 times")


@settings(max_examples=30)
@given(cost=st.integers(1, order.LARGEST_COST_MS))
def test_no_prediction_switches_the_floor_off_for_the_others(cost: int) -> None:
    queue = with_pool()
    request(queue, NOW, "heavy", cost_ms=cost)
    request(queue, NOW + 1, "other", tenant="b")
    now = NOW + 60_000
    for number in range(2_000):
        request(queue, now + number, f"fresh {number}", VIP, tenant=f"{number}")
        if tag_of(queue, now + number) == "other":
            return
    raise AssertionError("it was passed over 2,000 times")


@given(late=st.integers(1, 10**6), fresh=st.integers(0, 30), priority=st.integers(0, 9))
def test_vip_that_missed_its_budget_stands_a_little_later_and_never_behind_all(
    late: int, fresh: int, priority: int
) -> None:
    queue = with_pool()
    base_ms = queue.standing.terms("m").base_ms
    request(queue, NOW, "late", VIP)
    missed = NOW + queue.messages["late"].budget_ms + late
    assert queue.age(missed, limit=9).missed == ("task-late",)
    message = queue.messages["late"]
    assert (message.stand, message.due) == (Stand.LIVE, 0)
    assert message.score // order.SAME_MS == NOW + message.budget_ms + base_ms // order.LATE_PART
    assert order.claim(message.cost_ms, message.urgency) < order.claim(message.cost_ms, order.urgency(1_000))
    for number in range(fresh):
        request(queue, missed + base_ms + number, f"fresh{number:02}", priority)
    assert tag_of(queue, missed + base_ms + fresh) == "late"


def test_a_promise_relegates_no_vip_request_that_fits_it() -> None:
    """Whether it fits is decided before its stand: after a missed budget, and where an ETA came too late, too."""
    queue = with_pool(slots=8)
    for number in range(3):
        request(queue, NOW, f"t{number}", VIP, cost_ms=1_000)
    now = NOW + 2_000
    assert len(queue.age(now, limit=9).missed) == 3
    queue.share("a", Share(contract_q10=512))
    for number in range(3):
        assert queue.rerank(now, task=f"task-t{number}", charge=True) == 1
    request(queue, now, "later", VIP, cost_ms=1_000, delay_ms=5_000)
    assert queue.age(now + 6_500, limit=9).woken == ("task-later",)
    assert {message.stand for message in queue.messages.values()} == {Stand.LIVE}
    assert all(message.in_profile for message in queue.messages.values())


def test_vip_beyond_its_contract_is_relegated_like_anybody() -> None:
    """Else what it sends too much of takes the slots that the contracts of other tenants are owed."""
    queue = with_pool(slots=8)
    queue.share("a", Share(contract_q10=256))
    for number in range(9):
        request(queue, NOW, f"t{number}", VIP, cost_ms=4_000)
    aged = queue.age(NOW + 60_000, limit=9)
    assert aged.missed == tuple(f"task-t{number}" for number in range(5))
    assert aged.relegated == tuple(f"task-t{number}" for number in range(5, 9))


@pytest.mark.parametrize("tier", [VIP, STANDARD, BASIC])
@given(flood=st.integers(40, 200), quiet=st.integers(0, 9))
def test_no_tier_s_flood_reaches_who_comes_after_its_excess(tier: int, flood: int, quiet: int) -> None:
    """Also when the flood has missed its budgets: what vip missed goes on claiming, so it does not come in anew."""
    queue = with_pool()
    for number in range(flood):
        request(queue, NOW + 50 * number, f"flood{number:04}", tier, tenant="loud")
    now = NOW + 50 * flood
    queue.age(now, limit=1_000)
    request(queue, now, "quiet", quiet, tenant="quiet")
    before = [tag_of(queue, now) for _ in range(12)]
    assert "quiet" in before


def test_relegated_work_is_owed_a_floor_while_others_are_served() -> None:
    """About one percent of what is served, oldest first, whatever its tier: nobody waits for ever behind a flood."""
    queue = with_pool(slots=64)
    request(queue, NOW, "old")
    queue.age(NOW + 20_000, limit=100)
    served = []
    for number in range(400):
        now = NOW + 20_000 + number
        request(queue, now, f"vip{number}", VIP, tenant=f"tenant{number}")
        served.append(tag_of(queue, now))
    assert "old" in served
    assert served.index("old") < 20
    for number in range(50):
        request(queue, NOW, f"old{number:02}", cost_ms=4_000)
    queue.age(NOW + 40_000, limit=100)
    served = []
    for number in range(1_000):
        now = NOW + 40_000 + number
        request(queue, now, f"more{number}", VIP, tenant=f"tenant{number}")
        served.append(tag_of(queue, now) or "")
    floor = [tag for tag in served if tag.startswith("old")]
    assert floor == sorted(floor)
    assert 5 <= len(floor) <= 15


def test_a_boost_counts_for_a_time_and_an_earlier_budget_or_priority_for_good() -> None:
    queue = with_pool()
    for number in range(3):
        request(queue, NOW + number, f"t{number}")
    assert queue.rerank(NOW, task="task-t2", boost=0, boost_ms=500) == 1
    assert queue.messages["t2"].score < queue.messages["t0"].score
    assert queue.age(NOW + 500, limit=9).boost_ended == ("task-t2",)
    assert queue.messages["t2"].score > queue.messages["t1"].score
    assert queue.rerank(NOW, task="task-t1", budget_ms=4_000) == 1
    assert queue.rerank(NOW, task="task-t2", priority=3) == 1
    assert [tag_of(queue, NOW + 500) for _ in range(3)] == ["t1", "t2", "t0"]


def test_a_boost_that_outlasts_the_budget_ends_after_relegation() -> None:
    queue = with_pool()
    request(queue, NOW, "t")
    assert queue.rerank(NOW, task="task-t", boost=0, boost_ms=20_000) == 1
    assert queue.age(NOW + 10_001, limit=9).relegated == ("task-t",)
    assert queue.age(NOW + 20_000, limit=9).boost_ended == ("task-t",)
    assert queue.messages["t"].stand is Stand.RELEGATED


def test_the_end_of_a_boost_is_told_once() -> None:
    queue = with_pool()
    request(queue, NOW, "t", VIP)
    assert queue.rerank(NOW, task="task-t", boost=9, boost_ms=500) == 1
    assert queue.age(NOW + 500, limit=9).boost_ended == ("task-t",)
    aged = queue.age(NOW + 1_001, limit=9)
    assert (aged.boost_ended, aged.missed) == ((), ("task-t",))

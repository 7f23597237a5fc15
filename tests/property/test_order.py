"""Who comes first, and who is protected from whom? The promises of the order, checked on the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import lane_limit, model_limit, place_limit, tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery, Nothing, Stand
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support.messages import submission
from tests.support.ordering import BASIC, BUDGETS, NOW, STANDARD, VIP, picked, request, tag_of, with_pool

# -- isolation


@given(flood=st.integers(20, 200), after=st.integers(0, 40))
def test_a_flood_moves_back_its_own_requests_only(flood: int, after: int) -> None:
    """However much one organisation has queued, who comes later in the same tier is served before its excess."""
    queue = with_pool()
    for number in range(flood):
        request(queue, NOW + number, f"flood{number:04}", tenant=f"shard{number % 7}", organisation="flooder")
    request(queue, NOW + flood + after, "quiet", tenant="quiet")
    first = [tag_of(queue, NOW + flood + after) for _ in range(30)]
    assert "quiet" in first


def test_tenants_of_one_organisation_count_together() -> None:
    def keys(organisations: list[str]) -> list[int]:
        queue = with_pool()
        for number, organisation in enumerate(organisations):
            request(queue, NOW, f"t{number}", tenant=f"tenant{number}", organisation=organisation)
        return [queue.messages[f"t{number}"].penalty or 0 for number in range(len(organisations))]

    assert max(keys([f"org{number}" for number in range(40)])) == 0
    assert max(keys(["org"] * 40)) > 0


def test_weight_makes_an_excess_less_steep_and_a_charge_applies_it_to_what_is_queued() -> None:
    queue = with_pool()
    for number in range(40):
        request(queue, NOW, f"t{number}")
    before = queue.messages["t39"].penalty or 0
    queue.share("a", Share(steepness_q10=order.Q10 // 4))
    assert queue.rerank(NOW, task="task-t39", charge=True) == 1
    assert queue.messages["t39"].penalty == pytest.approx(before / 4, rel=0.01)
    queue.share("a", Share(allowance_q10=64 * order.Q10))
    assert queue.rerank(NOW, task="task-t39", charge=True) == 1
    assert queue.messages["t39"].penalty == 0


@given(st.lists(st.integers(500, 8_000), min_size=1, max_size=60), st.integers(0, 512), st.integers(0, 512))
def test_a_promise_that_grows_moves_nothing_back(costs: list[int], before: int, more: int) -> None:
    """Neither the head of the queue, which had nothing before it, nor what was in profile."""
    queue = with_pool(slots=8)
    queue.share("a", Share(contract_q10=before))
    for number, cost_ms in enumerate(costs):
        request(queue, NOW + number, f"t{number}", cost_ms=cost_ms)
    was = {tag: (message.score, message.in_profile) for tag, message in queue.messages.items()}
    for share in (Share(before, steepness_q10=512), Share(before + more if before else 0, steepness_q10=256)):
        queue.share("a", share)
        for number in range(len(costs)):
            assert queue.rerank(NOW + 100, task=f"task-t{number}", charge=True) == 1
        for tag, (score, in_profile) in was.items():
            assert queue.messages[tag].score <= score
            assert queue.messages[tag].in_profile >= in_profile


@settings(max_examples=30)
@given(st.integers(1, 400))
def test_no_more_than_a_contract_is_ever_in_profile(elapsed_s: int) -> None:
    """Tokens: the share of the pool since the first request, and what may be saved up; the clock may go back."""
    queue = with_pool(slots=8)
    terms = queue.standing.terms("m")
    queue.share("a", Share(contract_q10=256))
    taken = 0
    for second in range(elapsed_s):
        for number in range(3):
            now = NOW + 1_000 * second - (500 if number == 1 else 0)
            request(queue, now, f"t{second}-{number}", cost_ms=3_000)
            taken += 3_000 * queue.messages[f"t{second}-{number}"].in_profile
    assert taken <= (elapsed_s * 1_000 + terms.burst_ms) * 8 // 4
    assert taken >= min(9_000 * elapsed_s, (elapsed_s - 1) * 2_000)


def test_what_fits_its_contract_stands_before_what_does_not() -> None:
    queue = with_pool(slots=2)
    queue.share("a", Share(contract_q10=512))
    for number in range(5):
        request(queue, NOW, f"t{number}", cost_ms=4_000)
    assert [queue.messages[f"t{number}"].in_profile for number in range(5)] == [True, True, False, False, False]
    assert (queue.messages["t2"].penalty or 0) >= queue.standing.terms("m").base_ms


# -- batch, ETA, limits, warmth


def test_batch_fills_idle_slots_behind_spare_ones_and_joins_the_order_in_time() -> None:
    queue = ReferenceQueue()
    queue.pool("m", replace(order.pool_terms(3, 4_000, BUDGETS), spare=1))
    request(queue, NOW, "batch", batch=True, budget_ms=60_000)
    request(queue, NOW + 1, "online")
    assert [tag_of(queue, NOW + 1) for _ in range(2)] == ["online", "batch"]
    request(queue, NOW + 2, "more", batch=True, budget_ms=60_000)
    assert picked(queue, NOW + 2) == Nothing(order.LOOK_AGAIN_MS), "the last slot is for whoever comes"
    request(queue, NOW + 3, "online too")
    assert queue.age(NOW + 30_002, limit=9).joined == ("task-more",)
    assert queue.messages["more"].stand is Stand.LIVE


@given(window=st.integers(1_000, 86_400_000), priority=st.integers(0, 9), cost=st.integers(1, 8_000))
def test_batch_near_the_end_of_its_window_goes_before_floods_only(window: int, priority: int, cost: int) -> None:
    """Else a batch job that does not fit would be served ahead of everybody, at the expense of online work."""
    queue = with_pool(slots=8)
    queue.submit(NOW, **submission("batch", priority=0, batch=True, tenant="b", budget_ms=window, cost_ms=4_000))
    end = NOW + window
    assert queue.age(end, limit=9).joined == ("task-batch",)
    for number in range(40):
        request(queue, end, f"flood{number:02}", tenant="flooder", cost_ms=8_000)
    request(queue, end, "online", priority, tenant="quiet", cost_ms=cost)
    started = [tag_of(queue, end) for _ in range(42)]
    assert started.index("online") < started.index("batch") < started.index("flood39")


def test_a_message_with_an_eta_waits_in_the_queue_and_a_worker_is_told_when_to_look() -> None:
    queue = ReferenceQueue()
    queue.submit(NOW, **submission("later", delay_ms=1_500))
    assert picked(queue, NOW, [("vip.light", "m")]) == Nothing(1_500)
    assert picked(queue, NOW + 1_499, [("vip.light", "m")]) == Nothing(1)
    assert tag_of(queue, NOW + 1_500, [("vip.light", "m")]) == "later"
    assert picked(queue, NOW + 1_500, [("vip.light", "m")]) == Nothing(None)


@pytest.mark.parametrize(
    "name",
    [
        lane_limit("basic.light"),
        model_limit("m"),
        place_limit("basic.light", "m"),
        tenant_limit("a"),
        tier_limit("basic"),
    ],
)
def test_a_limit_holds_for_queued_work_at_once_and_ends_when_it_is_lifted(name: str) -> None:
    queue = with_pool()
    for number in range(4):
        request(queue, NOW + number, f"t{number}")
    queue.limit(NOW, name=name, most=1)
    assert tag_of(queue, NOW + 9) == "t0"
    assert picked(queue, NOW + 9) == Nothing(order.LOOK_AGAIN_MS)
    queue.settle(NOW + 9, tag="t0", fence=1, outcome="done")
    assert tag_of(queue, NOW + 9) == "t1"
    queue.limit(NOW, name=name, most=None)
    assert tag_of(queue, NOW + 9) == "t2"


def test_a_limit_for_a_time_says_when_it_ends() -> None:
    queue = with_pool()
    request(queue, NOW, "t")
    queue.limit(NOW, name=model_limit("m"), most=0, for_ms=700)
    queue.limit(NOW, name=lane_limit("vip.light"), most=0, for_ms=300)
    request(queue, NOW, "vip", VIP)
    assert picked(queue, NOW) == Nothing(300)
    assert picked(queue, NOW + 300) == Nothing(400)
    assert tag_of(queue, NOW + 700) == "vip"


def test_tenants_at_their_limit_are_passed_over_in_bounded_steps() -> None:
    queue = with_pool(slots=64)
    for number in range(order.PASSED_OVER_PER_PICK + 2):
        tenant = f"tenant{number:02}"
        queue.limit(NOW, name=tenant_limit(tenant), most=0)
        request(queue, NOW + number, f"t{number}", tenant=tenant)
    request(queue, NOW + 900, "free", tenant="free")
    assert picked(queue, NOW + 900) == Nothing(1)
    assert tag_of(queue, NOW + 900) == "free"


def test_what_waits_behind_capped_tenants_comes_before_late_work_and_batch() -> None:
    """A pick passes over so many at most: then it looks again, and gives the slot to nobody meanwhile."""
    queue = ReferenceQueue()
    capped = order.PASSED_OVER_PER_PICK + 2
    queue.submit(NOW, **submission("late", priority=9, budget_ms=10))
    queue.submit(NOW, **submission("batch", batch=True, budget_ms=60_000))
    for number in range(capped):
        queue.limit(NOW, name=tenant_limit(f"c{number}"), most=0)
        queue.submit(NOW, **submission(f"c{number:02}", tenant=f"c{number}"))
    queue.submit(NOW + 5, **submission("online"))
    assert picked(queue, NOW + 20) == Nothing(1)
    assert [tag_of(queue, NOW + 20) for _ in range(3)] == ["online", "late", "batch"]


def test_online_work_of_warm_models_comes_first_and_before_late_work_and_batch_of_any() -> None:
    queue = ReferenceQueue()
    queue.submit(NOW, **submission("cold", model="cold"))
    for model in ("warm", "cold"):
        queue.submit(NOW + 1, **submission(f"late {model}", model=model, priority=9, budget_ms=1))
        queue.submit(NOW + 1, **submission(f"batch {model}", model=model, batch=True, budget_ms=60_000))
    queue.submit(NOW + 5, **submission("warm", model="warm"))
    places = [("vip.light", "warm"), ("vip.light", "cold")]
    started = [tag_of(queue, NOW + 5, places, warm=1) for _ in range(6)]
    assert started == ["warm", "late warm", "cold", "late cold", "batch warm", "batch cold"]


# -- prediction


@given(st.sampled_from([0.25, 1.0, 4.0]))
def test_a_tenants_own_predictions_are_corrected_by_what_was_seen(factor: float) -> None:
    queue = with_pool()
    for number in range(200):
        request(queue, NOW, "t", cost_ms=1_000)
        assert isinstance(picked(queue, NOW), Delivery)
        before = abs(queue.bias.get(("a", "m"), order.Q10) - factor * order.Q10)
        queue.settle(NOW + round(1_000 * factor), tag="t", fence=1, outcome="done")
        # Each step nears the truth, or stays within one step of it.
        after = abs(queue.bias["a", "m"] - factor * order.Q10)
        assert after <= max(before, factor * order.Q10 / 32), number
    request(queue, NOW, "next", cost_ms=1_000)
    assert queue.messages["next"].cost_ms == pytest.approx(1_000 * factor, rel=0.05)
    assert queue.mean_service_ms("m") == pytest.approx(1_000 * factor, rel=0.05)


def test_an_unknown_cost_is_the_pools_mean() -> None:
    queue = with_pool(mean_ms=2_500)
    request(queue, NOW, "known", cost_ms=0)
    queue.submit(NOW, **submission("nothing known", model="other"))
    assert queue.messages["known"].cost_ms == 2_500
    assert queue.messages["nothing known"].cost_ms == order.DEFAULT_COST_MS


def test_what_a_parked_tenant_takes_back_is_parked_no_more() -> None:
    queue = with_pool()
    queue.limit(NOW, name=tenant_limit("a"), most=0)
    for number, priority in enumerate((STANDARD, BASIC, BASIC)):
        request(queue, NOW + number, f"t{number}", priority)
    assert picked(queue, NOW + 9) == Nothing(order.LOOK_AGAIN_MS)
    assert {row[1] for row in queue.standing.rows.parked["a"]} == {"standard.light", "basic.light"}
    request(queue, NOW + 10, "other", tenant="b")
    for task in ("task-t1", "task-t0", "task-t2"):
        assert queue.withdraw(task=task) == 1
    assert queue.standing.rows.parked == {}
    assert tag_of(queue, NOW + 20) == "other"
    assert queue.standing.rows.waiting == queue.standing.rows.heads == queue.standing.rows.depth == {}


def test_a_share_that_is_taken_back_counts_no_more() -> None:
    queue = with_pool(slots=2)
    queue.share("a", Share(contract_q10=512))
    queue.share("a", None)
    request(queue, NOW, "t")
    assert not queue.messages["t"].in_profile


def test_a_dead_letter_without_an_end_is_replayed_without_one() -> None:
    queue = ReferenceQueue()
    queue.submit(NOW, **submission("t"))
    assert tag_of(queue, NOW, [("vip.light", "m")]) == "t"
    assert queue.settle(NOW, tag="t", fence=1, outcome="dead") == 1
    assert queue.replay(NOW + 5, task="task-t") == 1
    assert queue.messages["t"].expires == 0


@given(st.integers(0, 100), st.integers(1, 10**6), st.integers(1, 10**6))
def test_shares_in_percent_and_weights_become_whole_1024ths(percent: int, default: int, weight: int) -> None:
    assert order.contract_q10(percent) == percent * 1024 // 100
    assert 1 <= order.steepness_q10(default, weight) <= order.STEEPEST_Q10
    assert order.steepness_q10(weight, weight) == order.Q10

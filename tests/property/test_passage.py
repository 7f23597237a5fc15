"""Is what a delivery says of its wait what really happened in between?"""

from __future__ import annotations

from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.reference.limits import lane_limit, tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.reference.passage import Passage
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support.ordering import BASIC, NOW, STANDARD, VIP, picked, request, tag_of, with_pool

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from([VIP, STANDARD, BASIC]), st.sampled_from("abc"), st.booleans()),
        st.tuples(st.just("pick"), st.integers(0, 3_000)),
        st.tuples(st.just("settle"), st.sampled_from(["done", "requeue"])),
        st.tuples(st.just("cap"), st.sampled_from("abc"), st.sampled_from([None, 0, 1])),
    ),
    max_size=60,
)


def passage(found: object) -> Passage:
    assert isinstance(found, Delivery)
    told = Passage.from_text(found.passage)
    assert told is not None
    return told


def began(told: Passage) -> tuple[int, ...]:
    return told.began_vip, told.began_standard, told.began_basic, told.began_relegated, told.began_batch


@given(STEPS)
def test_what_began_meanwhile_is_what_was_picked_meanwhile(steps: list[tuple[object, ...]]) -> None:
    """By kind and tenant, for any course of submits, picks, ends and caps; a cap holds back no longer than the wait."""
    queue, now = with_pool(), NOW
    log: list[tuple[int, str]] = []
    waits_since: dict[str, tuple[int, int]] = {}
    runs: list[Delivery] = []
    for number, (what, *how) in enumerate(steps):
        if what == "submit":
            priority, tenant, batch = how
            tag = f"{tenant}{number}"
            request(queue, now, tag, int(str(priority)), str(tenant), batch=bool(batch))
            waits_since[tag] = (len(log), now)
        elif what == "cap":
            queue.limit(now, name=tenant_limit(str(how[0])), most=how[1] if isinstance(how[1], int) else None)
        elif what == "pick":
            now += int(str(how[0]))
            found = picked(queue, now)
            if isinstance(found, Delivery):
                told = passage(found)
                index, since = waits_since[found.tag]
                tenants = [tenant for _, tenant in log[index:]]
                counted = [sum(kind == each for kind, _ in log[index:]) for each in range(5)]
                assert list(began(told)) == counted
                assert told.began_own == tenants.count(found.tag[0])
                assert told.waited_ms == now - since
                assert told.held_tenant_ms <= told.waited_ms
                kinds = ["relegated", "batch"]
                priority = queue.messages[found.tag].priority
                tier = (priority > VIP) + (priority > 6)
                log.append((3 + kinds.index(told.stand) if told.stand in kinds else tier, found.tag[0]))
                runs.append(found)
        elif runs:
            ended = runs.pop(0)
            outcome = "done" if how[0] == "done" else "requeue"
            assert queue.settle(now, tag=ended.tag, fence=ended.fence, outcome=outcome) == 1
            waits_since[ended.tag] = (len(log), now)


def test_a_cap_is_told_for_as_long_as_it_held() -> None:
    queue = with_pool()
    queue.limit(NOW, name=tenant_limit("a"), most=1)
    for tag in ("a1", "a2"):
        request(queue, NOW, tag, VIP)
    first = picked(queue, NOW)
    assert isinstance(first, Delivery)
    assert passage(first).held_tenant_ms == 0
    assert tag_of(queue, NOW + 100) is None
    queue.settle(NOW + 700, tag=first.tag, fence=first.fence, outcome="done")
    told = passage(picked(queue, NOW + 900))
    assert (told.held_tenant_ms, told.waited_ms, told.began_own, told.own_waiting) == (700, 900, 1, 2)


def test_pauses_and_bulkheads_are_told_apart_and_end_with_their_time() -> None:
    queue = with_pool()
    queue.limit(NOW, name=lane_limit("vip.light"), most=0)
    queue.limit(NOW + 100, name=tier_limit("vip"), most=0, for_ms=200)
    request(queue, NOW + 50, "a", VIP)
    queue.age(NOW + 350, limit=9)
    queue.limit(NOW + 450, name=lane_limit("vip.light"), most=None)
    told = passage(picked(queue, NOW + 500))
    assert (told.held_lane_ms, told.held_tier_ms, told.held_tenant_ms) == (400, 250, 0)


def test_a_limit_still_reached_counts_until_the_reading() -> None:
    queue = ReferenceQueue()
    queue.limit(NOW, name=tenant_limit("a"), most=0)
    assert queue.standing.limits.held.reading(NOW + 30, [tenant_limit("a")]) == (0, 0, 0, 0, 30, 0)
    assert queue.standing.limits.held.reading(NOW - 30, [tenant_limit("a")]) == (0, 0, 0, 0, 0, 0)


def test_no_tenant_counts_as_nobody() -> None:
    queue = with_pool()
    for tag in "ab":
        request(queue, NOW, tag, VIP, "")
    picked(queue, NOW)
    assert passage(picked(queue, NOW)).began_own == 0


def test_a_delivery_of_an_older_version_has_no_passage() -> None:
    assert Passage.from_text("") is None
    told = Passage("live", *range(21))
    assert Passage.from_text(":".join(map(str, astuple(told)))) == told


def test_the_only_message_of_a_task_is_not_queued_twice_and_goes_on_from_its_fence() -> None:
    queue = with_pool()
    request(queue, NOW, "a", VIP, task="t", fence=2)
    request(queue, NOW, "b", VIP, task="t", fence=2)
    assert list(queue.messages) == ["a"]
    found = picked(queue, NOW)
    assert isinstance(found, Delivery)
    assert found.fence == 3
    request(queue, NOW, "c", VIP, task="t", fence=3)
    assert list(queue.messages) == ["a"], "it runs"
    queue.settle(NOW, tag="a", fence=3, outcome="done")
    request(queue, NOW, "d", VIP, task="t", fence=0)
    assert list(queue.messages) == ["d"]

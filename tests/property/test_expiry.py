"""Is anything delivered after its time to live, and is each thing that expires told of once?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.reference.limits import tenant_limit
from qosqueue.policy.reference.message import Delivery, Nothing, Stand
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support.messages import submission

NOW = 1_800_000_000_000


def pick(queue: ReferenceQueue, now: int) -> Delivery | Nothing:
    return queue.dispatch(now, lease_ms=10**9, holder="w", places=[("vip.light", "m")])


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.booleans()), max_size=60), st.integers(1, 7))
def test_each_message_is_delivered_in_its_time_or_told_of_once(
    messages: list[tuple[int, bool, bool]], at_once: int
) -> None:
    queue = ReferenceQueue()
    for number, (ttl_ms, relegated, batch) in enumerate(messages):
        changes = {"budget_ms": 1 if relegated else 1_000, "batch": batch, "ttl_ms": ttl_ms, "tenant": f"{number % 3}"}
        queue.submit(NOW, **submission(f"t{number}", **changes))
    delivered, told, picks = [], [], 0
    while not isinstance(picked := pick(queue, NOW + 20), Nothing) or picked.retry_after_ms == 1:
        if isinstance(picked, Delivery):
            delivered.append(picked.task)
        picks += 1
        assert picks <= 2 * len(messages) + 1
    while (reaped := queue.reap(NOW + 20, limit=at_once)).expired:
        told += reaped.expired
    in_time = {f"task-t{number}" for number, (ttl_ms, _, _) in enumerate(messages) if not 0 < ttl_ms <= 20}
    assert set(delivered) == in_time
    assert sorted(delivered + told) == sorted(f"task-t{number}" for number in range(len(messages)))


def test_a_pick_passes_over_so_many_that_have_expired_and_no_more() -> None:
    queue = ReferenceQueue()
    for number in range(order.PASSED_OVER_PER_PICK + 1):
        queue.submit(NOW, **submission(f"t{number}", ttl_ms=10))
    queue.submit(NOW + 1, **submission("in time"))
    assert pick(queue, NOW + 10) == Nothing(1), "it looks again at once"
    found = pick(queue, NOW + 10)
    assert isinstance(found, Delivery)
    assert found.tag == "in time"


def test_what_has_expired_can_still_be_taken_back_or_be_moved_but_never_runs() -> None:
    queue = ReferenceQueue()
    for tag in ("back", "moved", "purged"):
        queue.submit(NOW, **submission(tag, ttl_ms=10, budget_ms=5, batch=tag == "moved"))
    assert pick(queue, NOW + 10) == Nothing(None)
    assert {each.stand for each in queue.messages.values()} == {Stand.EXPIRED}
    assert queue.withdraw(task="task-back") == 1
    assert queue.rerank(NOW + 10, task="task-moved", priority=0, boost=0, boost_ms=500) == 1
    assert queue.purge(lane="vip.light", limit=1) == 1
    assert pick(queue, NOW + 10) == Nothing(None)
    assert queue.reap(NOW + 10, limit=9).expired in {("task-moved",), ("task-purged",)}
    assert queue.messages == queue.tasks == {}


def test_an_attempt_that_is_lost_after_its_time_to_live_is_told_of_and_not_tried_again() -> None:
    queue = ReferenceQueue()
    queue.submit(NOW, **submission("t", ttl_ms=10))
    assert isinstance(pick(queue, NOW), Delivery)
    assert queue.settle(NOW + 10, tag="t", fence=1, outcome="requeue") == 1
    assert pick(queue, NOW + 10) == Nothing(None)
    assert queue.reap(NOW + 10, limit=9).expired == ("task-t",)


def test_a_sweep_says_whether_there_may_be_more() -> None:
    queue = ReferenceQueue()
    for number in range(3):
        queue.submit(NOW, **submission(f"t{number}", ttl_ms=10))
    first = queue.reap(NOW + 10, limit=2)
    second = queue.reap(NOW + 10, limit=2)
    assert (first.is_full(2), second.is_full(2)) == (True, False)
    assert sorted((first + second).expired) == ["task-t0", "task-t1", "task-t2"]


def test_what_expires_behind_a_limit_is_not_moved_by_a_sweep_of_due_moves() -> None:
    queue = ReferenceQueue()
    queue.submit(NOW, **submission("t", ttl_ms=10, budget_ms=5, tenant="a"))
    queue.limit(NOW, name=tenant_limit("a"), most=0)
    aged = queue.age(NOW + 10, limit=9)
    assert not any((aged.woken, aged.joined, aged.relegated, aged.boost_ended)), "it takes no more part in the order"
    assert queue.reap(NOW + 10, limit=9).expired == ("task-t",)

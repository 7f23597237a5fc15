"""Who is woken when something may run? A slot that is free must not stand still until somebody happens to look."""

from __future__ import annotations

import pytest

from qosqueue.policy import order
from qosqueue.policy.reference.limits import lane_limit, model_limit, place_limit, tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery, Nothing, Place
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support.messages import submission

NOW = 1_800_000_000_000
PLACE, OTHER_LANE, OTHER_MODEL = ("vip.light", "m"), ("basic.light", "m"), ("vip.light", "n")
PLACES = [PLACE, OTHER_LANE, OTHER_MODEL]


def submit(queue: ReferenceQueue, tag: str, place: Place = PLACE, **changes: object) -> None:
    queue.submit(NOW, **submission(tag, lane=place[0], model=place[1], **changes))


def pick(queue: ReferenceQueue, now: int = NOW) -> Delivery | Nothing:
    return queue.dispatch(now, lease_ms=10_000, holder="w", places=PLACES)


def rung(queue: ReferenceQueue) -> set[Place]:
    return set(queue.standing.bells)


@pytest.mark.parametrize(
    ("name", "woken"),
    [
        (place_limit(*PLACE), {PLACE}),
        (model_limit("m"), {PLACE, OTHER_LANE}),
        (lane_limit("vip.light"), {PLACE, OTHER_MODEL}),
        (tier_limit("vip"), {PLACE, OTHER_MODEL}),
    ],
)
@pytest.mark.parametrize("how", ["done", "requeue", "dead", "reap"])
def test_the_slot_that_a_limit_held_back_rings_wherever_it_may_be_used(name: str, woken: set[Place], how: str) -> None:
    queue = ReferenceQueue()
    queue.limit(NOW, name=name, most=1)
    for place in PLACES:
        for number in range(3):
            submit(queue, f"{place}{number}", place)
    running = []
    while isinstance(picked := pick(queue), Delivery):
        running.append(picked)
    assert not rung(queue), "nothing may run: nobody is woken for nothing"
    held = next(each for each in running if (each.lane, each.model) in woken)
    if how == "reap":
        queue.renew(NOW, lease_ms=20_000, leases=[(each.tag, each.fence) for each in running if each is not held])
        queue.reap(NOW + 10_000, limit=9)
    else:
        queue.settle(NOW, tag=held.tag, fence=held.fence, outcome=how)  # type: ignore[arg-type]
    waits = {place for place in woken if queue.standing.waits_at(place)}
    assert waits
    assert waits <= rung(queue)


def test_the_spare_slot_rings_for_batch_wherever_it_waits() -> None:
    queue = ReferenceQueue()
    queue.pool("m", order.PoolTerms(slots=3, spare=1))
    for number in range(2):
        submit(queue, f"online{number}")
    for place in (PLACE, OTHER_LANE):
        submit(queue, f"batch {place}", place, batch=True, budget_ms=10**6)
    assert [isinstance(pick(queue), Delivery) for _ in range(3)] == [True, True, False]
    assert rung(queue) == set()
    assert queue.settle(NOW, tag="online0", fence=1, outcome="done") == 1
    assert rung(queue) == {PLACE, OTHER_LANE}


def test_a_slot_under_a_limit_that_still_holds_wakes_nobody() -> None:
    queue = ReferenceQueue()
    for number in range(5):
        submit(queue, f"t{number}")
    for _ in range(3):
        assert isinstance(pick(queue), Delivery)
    queue.limit(NOW, name=model_limit("m"), most=1)
    assert isinstance(pick(queue), Nothing)
    for number in range(2):
        queue.settle(NOW, tag=f"t{number}", fence=1, outcome="done")
        assert rung(queue) == set()
    queue.settle(NOW, tag="t2", fence=1, outcome="done")
    assert rung(queue) == {PLACE}


@pytest.mark.parametrize(
    "name",
    [
        tenant_limit("a"),
        lane_limit("vip.light"),
        model_limit("m"),
        place_limit(*PLACE),
        tier_limit("vip"),
    ],
)
@pytest.mark.parametrize("by", ["pick", "sweep"])
def test_a_limit_for_a_time_ends_for_what_waited_behind_it(name: str, by: str) -> None:
    queue = ReferenceQueue()
    submit(queue, "t", tenant="a")
    queue.limit(NOW, name=name, most=0, for_ms=700)
    assert pick(queue) == Nothing(700), "somebody looks when it ends"
    if by == "sweep":
        queue.age(NOW + 699, limit=9)
        assert not rung(queue)
        queue.age(NOW + 700, limit=9)
        assert rung(queue) == {PLACE}
    picked = pick(queue, NOW + 700)
    assert isinstance(picked, Delivery)
    assert queue.standing.limits.limits == {}, "no later pick pays for it"


def test_a_limit_that_replaces_one_with_an_end_does_not_end_with_it() -> None:
    queue = ReferenceQueue()
    submit(queue, "t", tenant="a")
    for for_ms, most in ((100, 0), (0, 0)):
        queue.limit(NOW, name=tenant_limit("a"), most=most, for_ms=for_ms)
    assert pick(queue, NOW + 100) == Nothing(order.LOOK_AGAIN_MS)
    queue.limit(NOW, name=tenant_limit("a"), most=0, for_ms=900)
    queue.limit(NOW, name=tenant_limit("a"), most=None)
    assert isinstance(pick(queue, NOW + 100), Delivery)


def test_many_limits_that_end_at_once_end_within_bounded_steps() -> None:
    queue = ReferenceQueue()
    for number in range(order.DUE_PER_PICK + 1):
        queue.limit(NOW, name=tenant_limit(f"tenant{number}"), most=0, for_ms=100)
        submit(queue, f"t{number}", tenant=f"tenant{number}")
    assert pick(queue) == Nothing(100)
    assert isinstance(pick(queue, NOW + 100), Delivery)
    assert len(queue.standing.limits.limits) == 1
    assert isinstance(pick(queue, NOW + 100), Delivery)
    assert queue.standing.limits.limits == {}

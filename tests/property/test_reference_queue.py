"""Does the queue keep its promises? Checked on the reference, which the scripts match step for step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qosqueue.policy import order
from qosqueue.policy.breaker import model_breaker
from qosqueue.policy.reference.limits import lane_limit, model_limit, names_of, place_limit, tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery, Message, Nothing, Place, Reaped, Stand, State
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support.messages import submission

PLACES = [("vip.light", "m"), ("standard.light", "m"), ("basic.light", "m"), ("basic.light", "n")]
TENANTS = ["", "a", "b"]
LIMITED = [
    *(tenant_limit(tenant) for tenant in TENANTS[1:]),
    *(lane_limit(lane) for lane, _ in PLACES[1:3]),
    *(model_limit(model) for model in "mn"),
    tier_limit("basic"),
    *(place_limit(*place) for place in PLACES[:2]),
]
# Batch fills two of the three slots of the model m.
TERMS = order.PoolTerms(slots=3, spare=1, mean_ms=100)
LEASE_MS = 1_000
NOW = 1_800_000_000_000


def submit(queue: ReferenceQueue, now: int, tag: str, place: Place = PLACES[0], **changes: Any) -> int:
    return queue.submit(now, **submission(tag, lane=place[0], model=place[1], **changes))


def pick(queue: ReferenceQueue, now: int, places: list[Place] = PLACES) -> Delivery | None:
    picked = queue.dispatch(now, lease_ms=LEASE_MS, holder="w", places=places)
    return picked if isinstance(picked, Delivery) else None


class Promises(RuleBasedStateMachine):
    """Any course of events. The machine keeps its own books and compares them with the queue after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ReferenceQueue()
        self.now = NOW
        self.submitted: set[str] = set()
        self.gone: dict[str, str] = {}
        self.deliveries: list[Delivery] = []
        self.highest: dict[str, int] = {}
        self.charged: dict[str, int] = {}
        self.limits: dict[str, tuple[int, int]] = {}
        self.queue.pool("m", TERMS)

    def left(self, tag: str, why: str) -> None:
        assert tag not in self.gone, f"{tag} ended twice: {self.gone.get(tag)}, {why}"
        self.gone[tag] = why

    @rule(
        place=st.sampled_from(PLACES),
        tenant=st.sampled_from(TENANTS),
        priority=st.integers(0, 9),
        batch=st.booleans(),
        budget_ms=st.sampled_from([0, 50, 500]),
        cost_ms=st.integers(0, 3_000),
        delay_ms=st.sampled_from([0, 0, 300]),
        ttl=st.booleans(),
    )
    def submits(self, place: Place, tenant: str, ttl: bool, **changes: Any) -> None:
        tag = f"t{len(self.submitted)}"
        changes |= {"tenant": tenant, "organisation": tenant, "ttl_ms": 900 if ttl else 0}
        assert submit(self.queue, self.now, tag, place, **changes) == 1
        self.submitted.add(tag)

    @rule()
    def dispatches_all_that_may_run(self) -> None:
        """After it no bell is left: what rings one then is what frees a slot."""
        while self.dispatches_from(PLACES):
            pass

    @rule(places=st.lists(st.sampled_from(PLACES), unique=True, min_size=1))
    def dispatches(self, places: list[Place]) -> None:
        self.dispatches_from(places)

    def dispatches_from(self, places: list[Place]) -> bool:
        before = {each.tag for each in self.queue.messages.values() if each.state is State.QUEUED}
        picked = self.queue.dispatch(self.now, lease_ms=LEASE_MS, holder="w", places=places)
        self.forget_limits_that_have_ended()
        if isinstance(picked, Nothing):
            waiting = [self.queue.messages[tag] for tag in before]
            eligible = [each for each in waiting if (each.lane, each.model) in places and self._may_run(each)]
            assert not eligible, "a free slot stands still though somebody may run"
            assert picked.retry_after_ms is None or picked.retry_after_ms > 0
            ends = [until - self.now for _, until in self.limits.values() if until > self.now]
            if ends and any((each.lane, each.model) in places and self._runnable(each) for each in waiting):
                assert picked.retry_after_ms is not None
                assert picked.retry_after_ms <= min(ends), "nobody looks again when a limit ends"
            return False
        assert picked.tag in before
        assert (picked.lane, picked.model) in places
        assert picked.fence > self.highest.get(picked.tag, 0)
        assert picked.payload == f"of {picked.tag}"
        assert self.queue.messages[picked.tag].arrival <= self.now, "nothing runs before its ETA"
        assert self.queue.messages[picked.tag].expires == 0 or self.queue.messages[picked.tag].expires > self.now
        self.highest[picked.tag] = picked.fence
        self.charged[picked.tag] = self.charged.get(picked.tag, 0) + 1
        self.deliveries.append(picked)
        return True

    @rule(which=st.integers(0, 9), outcome=st.sampled_from(["done", "void", "requeue", "retry", "dead"]))
    def settles(self, which: int, outcome: Any) -> None:
        if not self.deliveries:
            return
        delivery = self.deliveries[-1 - which % len(self.deliveries)]
        message = self.queue.messages.get(delivery.tag)
        held = message is not None and message.state is State.LEASED and message.fence == delivery.fence
        arrival = 0 if message is None else message.arrival
        answer = self.queue.settle(self.now, tag=delivery.tag, fence=delivery.fence, outcome=outcome)
        assert bool(answer) == held, "only the holder of the lease settles, and only once"
        if answer == 1 and outcome in ("requeue", "retry"):
            self.charged[delivery.tag] -= outcome == "requeue"
            kept = self.queue.messages[delivery.tag]
            assert (kept.state, kept.arrival) == (State.QUEUED, arrival)
            assert kept.stand is not Stand.RELEGATED, "what was in time once goes back to its place"
        elif answer == 2 or (answer == 1 and outcome != "dead"):
            self.left(delivery.tag, "settled")

    @rule(number=st.integers(0, 9))
    def withdraws(self, number: int) -> None:
        tag = f"t{number}"
        known = tag in self.queue.messages
        answer = self.queue.withdraw(task=f"task-{tag}")
        assert bool(answer) == known
        if answer == 1:
            self.left(tag, "withdrawn")

    @rule(number=st.integers(0, 9))
    def replays(self, number: int) -> None:
        message = self.queue.messages.get(f"t{number}")
        dead = message is not None and message.state is State.DEAD
        assert self.queue.replay(self.now, task=f"task-t{number}") == int(dead)
        if dead:
            self.charged[f"t{number}"] = 0

    @rule(number=st.integers(0, 9))
    def discards(self, number: int) -> None:
        tag = f"t{number}"
        message = self.queue.messages.get(tag)
        dead = message is not None and message.state is State.DEAD
        assert self.queue.discard(tag=tag) == int(dead)
        if dead:
            self.left(tag, "discarded")

    @rule(
        number=st.integers(0, 9),
        priority=st.one_of(st.none(), st.integers(0, 9)),
        budget_ms=st.one_of(st.none(), st.sampled_from([0, 100, 4_000])),
        boost=st.one_of(st.none(), st.integers(0, 9)),
        boost_ms=st.integers(0, 500),
        charge=st.booleans(),
    )
    def reranks(self, number: int, **how: Any) -> None:
        message = self.queue.messages.get(f"t{number}")
        queued = message is not None and message.state is State.QUEUED
        lane = message.lane if message is not None else ""
        assert self.queue.rerank(self.now, task=f"task-t{number}", **how) == int(queued)
        assert message is None or message.lane == lane, "a boost never rewrites a tier"

    @rule(later_ms=st.integers(0, 1_500), limit=st.integers(1, 10))
    def reaps(self, later_ms: int, limit: int) -> None:
        self.now += later_ms
        lapsed = {tag: self.queue.messages[tag].fence for tag, until in self.queue.leases.items() if until <= self.now}
        reaped = self.queue.reap(self.now, limit=limit)
        for task, fence in zip(reaped.requeued, reaped.fences, strict=True):
            assert lapsed[task.removeprefix("task-")] == fence
        for task in (*reaped.expired, *reaped.withdrawn):
            self.left(task.removeprefix("task-"), "reaped")
        moved = {task.removeprefix("task-") for task in (*reaped.requeued, *reaped.dead, *reaped.withdrawn)}
        assert moved <= set(lapsed), "a lease that still runs is nobody else's"

    @rule(ms=st.integers(0, 400))
    def ages(self, ms: int) -> None:
        self.now += ms
        self.queue.age(self.now, limit=100)
        self.forget_limits_that_have_ended()
        for message in self.queue.messages.values():
            if message.state is State.QUEUED and message.stand is not Stand.LATER:
                assert message.stand is not Stand.EXPIRED or message.expires <= self.now
                assert not message.due or message.due > self.now

    @rule(name=st.sampled_from(LIMITED), most=st.one_of(st.none(), st.integers(0, 2)), for_ms=st.sampled_from([0, 300]))
    def limits(self, name: str, most: int | None, for_ms: int) -> None:
        self.queue.limit(self.now, name=name, most=most, for_ms=for_ms)
        self.limits.pop(name, None)
        if most is not None:
            self.limits[name] = most, self.now + for_ms if for_ms else 0

    def forget_limits_that_have_ended(self) -> None:
        self.limits = {name: limit for name, limit in self.limits.items() if not 0 < limit[1] <= self.now}

    def _running(self, name: str) -> int:
        return sum(each.state is State.LEASED and name in _names(each) for each in self.queue.messages.values())

    def _at_limit(self, name: str) -> bool:
        most, until = self.limits.get(name, (0, 1))
        return not 0 < until <= self.now and self._running(name) >= most

    def _runnable(self, message: Message) -> bool:
        in_time = not message.expires or message.expires > self.now
        return message.state is State.QUEUED and message.stand is not Stand.LATER and in_time

    def _may_run(self, message: Message) -> bool:
        """Whether nothing but the want of a slot keeps it from running."""
        terms = self.queue.standing.terms(message.model)
        left = terms.slots - self._running(model_limit(message.model))
        return (
            self._runnable(message)
            and not any(map(self._at_limit, _names(message)))
            and (message.stand is not Stand.BATCH or not terms.slots or left > terms.spare)
        )

    @invariant()
    def nothing_is_lost_and_nothing_comes_back(self) -> None:
        assert self.submitted == set(self.gone) | set(self.queue.messages)
        assert not set(self.gone) & set(self.queue.messages)

    @invariant()
    def attempts_are_charged_once_and_never_beyond_the_limit(self) -> None:
        for tag, message in self.queue.messages.items():
            assert message.attempts == self.charged.get(tag, 0) <= message.max_attempts
            assert message.fence == self.highest.get(tag, 0)
            is_leased, was_leased = tag in self.queue.leases, message.fence > 0
            assert (message.state is State.LEASED, message.holder is not None) == (is_leased, was_leased)

    @invariant()
    def what_runs_is_counted(self) -> None:
        running = self.queue.standing.limits.running
        assert {name: running.get(name, 0) for name in LIMITED} == {name: self._running(name) for name in LIMITED}

    @invariant()
    def limits_that_have_ended_are_forgotten(self) -> None:
        assert self.queue.standing.limits.limits.keys() <= self.limits.keys()

    @invariant()
    def claims_are_those_of_what_is_live(self) -> None:
        live = {
            (each.organisation, each.model)
            for each in self.queue.messages.values()
            if each.state is State.QUEUED and each.stand is Stand.LIVE and each.organisation
        }
        assert set(self.queue.standing.claims.claimed) <= live

    @invariant()
    def a_bell_rings_wherever_somebody_may_run(self) -> None:
        """Except for what the end of a limit lets run: pick and sweep were told when to look."""
        if any(0 < until <= self.now for _, until in self.limits.values()):
            return
        for message in self.queue.messages.values():
            if self._may_run(message):
                assert self.queue.standing.bells.get((message.lane, message.model), 0) >= 1


def _names(message: Message) -> tuple[str, ...]:
    """Every limit that holds for a message."""
    names = names_of((message.lane, message.model))
    return (*names, tenant_limit(message.tenant)) if message.tenant else names


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_cancelled_attempt_does_not_come_back() -> None:
    outcomes: tuple[Any, ...] = ("requeue", "dead", "reap")
    for outcome in outcomes:
        queue = ReferenceQueue()
        submit(queue, NOW, "t")
        delivery = pick(queue, NOW)
        assert delivery is not None
        assert queue.withdraw(task="task-t") == 2
        assert queue.renew(NOW, lease_ms=LEASE_MS, leases=[("t", delivery.fence)]) == [2]
        if outcome != "reap":
            assert queue.settle(0, tag="t", fence=delivery.fence, outcome=outcome) == 2
        else:
            assert queue.reap(NOW + LEASE_MS, limit=1).withdrawn == ("task-t",)
        assert queue.messages == queue.tasks == {}


def test_the_last_lost_attempt_is_kept_dead_can_be_replayed_and_taken_out() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t", max_attempts=2, ttl_ms=9_000, budget_ms=50)
    for attempt in (1, 2):
        assert pick(queue, NOW) is not None
        reaped = queue.reap(NOW + LEASE_MS, limit=9)
        assert (reaped.requeued, reaped.dead) == ((("task-t",), ()) if attempt == 1 else ((), ("task-t",)))
    assert queue.messages["t"].payload == "of t"
    assert pick(queue, NOW) is None
    assert queue.replay(NOW + 10**6, task="task-t") == 1
    assert queue.messages["t"].expires == NOW + 10**6 + 9_000, "its time to live begins again"
    again = pick(queue, NOW + 10**6)
    assert again is not None
    assert again.fence == 3, "the fence goes on rising"
    assert queue.settle(NOW + 10**6, tag="t", fence=3, outcome="dead") == 1
    assert queue.reap(NOW + 10**9, limit=9) == Reaped()
    assert queue.discard(tag="t") == 1
    assert queue.discard(tag="t") == 0
    assert queue.messages == queue.tasks == {}


def test_what_is_unknown_answers_zero() -> None:
    queue = ReferenceQueue()
    assert queue.withdraw(task="task-t") == queue.replay(NOW, task="task-t") == queue.discard(tag="t") == 0
    assert queue.rerank(NOW, task="task-t", priority=1) == 0


def test_a_dead_letter_can_be_taken_back() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t")
    delivery = pick(queue, NOW)
    assert delivery is not None
    assert queue.settle(NOW, tag="t", fence=delivery.fence, outcome="dead") == 1
    assert queue.withdraw(task="task-t") == 1
    assert queue.messages == queue.tasks == {}
    assert len(queue.dead) == 0


def test_a_known_tag_is_queued_once_and_a_newer_message_owns_the_task() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t")
    assert submit(queue, NOW, "t", task="x") == 0
    assert submit(queue, NOW, "u", task="task-t", budget_ms=900) == 1
    first = pick(queue, NOW)
    assert first is not None
    assert queue.settle(0, tag=first.tag, fence=first.fence, outcome="done") == 1
    assert queue.withdraw(task="task-t") == 1
    assert len(queue.messages) == 0


def test_purge_drops_the_oldest_of_one_lane_and_leaves_leases() -> None:
    queue = ReferenceQueue()
    for number in range(4):
        submit(queue, NOW + number, f"t{number}")
    submit(queue, NOW, "other", PLACES[2])
    leased = pick(queue, NOW, [PLACES[0]])
    assert leased is not None
    assert leased.tag == "t0"
    assert queue.purge(lane="vip.light", limit=2) == 2
    assert queue.purge(lane="vip.light", limit=9) == 1
    assert queue.purge(lane="vip.light", limit=9) == 0
    assert set(queue.messages) == {"t0", "other"}


def test_a_lost_lease_renews_nothing() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t")
    first = pick(queue, NOW)
    assert first is not None
    assert queue.reap(NOW + LEASE_MS, limit=1).requeued == ("task-t",)
    second = pick(queue, NOW + LEASE_MS)
    assert second is not None
    leases = [("t", first.fence), ("t", second.fence), ("never-seen", 1)]
    assert queue.renew(NOW + LEASE_MS, lease_ms=LEASE_MS, leases=leases) == [0, 1, 0]
    assert queue.settle(0, tag="t", fence=first.fence, outcome="done") == 0
    assert queue.settle(0, tag="t", fence=second.fence, outcome="done") == 1


def test_breakers_hear_of_a_service_once_and_only_from_the_attempt_that_ends_it() -> None:
    queue, name = ReferenceQueue(), model_breaker("m")
    submit(queue, NOW, "a")
    queue.observe(NOW, names=[name], served=False)
    before = queue.probe(NOW)
    late = pick(queue, NOW)
    queue.reap(NOW + LEASE_MS, limit=9)
    last = pick(queue, NOW + LEASE_MS)
    assert late is not None
    assert last is not None
    assert queue.settle(NOW + LEASE_MS, tag="a", fence=late.fence, outcome="done", breakers=[name]) == 0
    assert queue.probe(NOW) == before
    assert queue.settle(NOW + LEASE_MS, tag="a", fence=last.fence, outcome="done", breakers=[name]) == 1
    assert queue.probe(NOW)[name].score == before[name].score - 1


def test_wrong_figures_are_refused_before_anything_is_changed() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t")
    delivery = pick(queue, NOW)
    assert delivery is not None
    for wrong in ({"priority": 10}, {"priority": -1}, {"max_attempts": 0}, {"delay_ms": -1}, {"ttl_ms": 2**43}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            submit(queue, NOW, "wrong", **wrong)
    with pytest.raises(ValueError, match="boost"):
        queue.rerank(NOW, task="task-t", boost=10)
    with pytest.raises(ValueError, match="most"):
        queue.limit(NOW, name="t:a", most=-1)
    with pytest.raises(ValueError, match="outcome"):
        queue.settle(NOW, tag="t", fence=delivery.fence, outcome="lost")  # type: ignore[arg-type]
    assert queue.settle(NOW, tag="t", fence=delivery.fence, outcome="done") == 1
    assert queue.messages == {}

"""Does the policy keep its promises? Checked on the reference, which the scripts match step for step."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qosqueue.policy.profile import rank
from qosqueue.policy.reference.message import Delivery, Reaped, State
from qosqueue.policy.reference.queue import ReferenceQueue

PLACES = [("vip.light", "m"), ("standard.light", "m"), ("basic.light", "m"), ("basic.light", "n")]
LEASE_MS = 1_000
NOW = 1_800_000_000_000


def submit(queue: ReferenceQueue, now: int, tag: str, place: tuple[str, str] = PLACES[0], **changes: Any) -> None:
    message = {"band": 0, "budget_ms": 100, "ttl_ms": 0, "max_attempts": 3, "payload": f"of {tag}"} | changes
    queue.submit(now, tag=tag, task=f"task-{tag}", lane=place[0], model=place[1], **message)


def pick(queue: ReferenceQueue, now: int, aged_one_in: int = 8) -> Delivery | None:
    return queue.dispatch(now, lease_ms=LEASE_MS, holder="w", aged_one_in=aged_one_in, places=PLACES)


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

    def left(self, tag: str, why: str) -> None:
        assert tag not in self.gone, f"{tag} ended twice: {self.gone.get(tag)}, {why}"
        self.gone[tag] = why

    @rule(place=st.sampled_from(PLACES), band=st.integers(0, 2), budget_ms=st.integers(0, 500), ttl=st.booleans())
    def submits(self, place: tuple[str, str], band: int, budget_ms: int, ttl: bool) -> None:
        tag = f"t{len(self.submitted)}"
        submit(self.queue, self.now, tag, place, band=band, budget_ms=budget_ms, ttl_ms=900 if ttl else 0)
        self.submitted.add(tag)

    @rule(aged_one_in=st.integers(2, 5))
    def dispatches(self, aged_one_in: int) -> None:
        expected = self.queue.ready(PLACES)
        aged = {message.tag for message in expected if message.aged}
        delivery = pick(self.queue, self.now, aged_one_in)
        assert (delivery is None) == (not expected)
        if delivery is not None:
            assert delivery.tag == expected[0].tag or delivery.tag in aged
            assert delivery.fence > self.highest.get(delivery.tag, 0)
            assert delivery.payload == f"of {delivery.tag}"
            self.highest[delivery.tag] = delivery.fence
            self.charged[delivery.tag] = self.charged.get(delivery.tag, 0) + 1
            self.deliveries.append(delivery)

    @rule(which=st.integers(0, 9), requeue=st.booleans())
    def settles(self, which: int, requeue: bool) -> None:
        if not self.deliveries:
            return
        delivery = self.deliveries[-1 - which % len(self.deliveries)]
        message = self.queue.messages.get(delivery.tag)
        before = None if message is None else (message.rank, message.arrival)
        held = message is not None and message.state is State.LEASED and message.fence == delivery.fence
        answer = self.queue.settle(
            self.now, tag=delivery.tag, fence=delivery.fence, outcome="requeue" if requeue else "done"
        )
        assert bool(answer) == held, "only the holder of the lease settles, and only once"
        if answer == 1 and requeue:
            self.charged[delivery.tag] -= 1
            kept = self.queue.messages[delivery.tag]
            assert (kept.state, kept.rank, kept.arrival) == (State.QUEUED, *(before or ()))
        elif answer:
            self.left(delivery.tag, "settled")

    @rule(number=st.integers(0, 9))
    def withdraws(self, number: int) -> None:
        tag = f"t{number}"
        known = tag in self.queue.messages
        answer = self.queue.withdraw(task=f"task-{tag}")
        assert bool(answer) == known
        if answer == 1:
            self.left(tag, "withdrawn")

    @rule(later_ms=st.integers(0, 1_500), limit=st.integers(1, 10))
    def reaps(self, later_ms: int, limit: int) -> None:
        self.now += later_ms
        lapsed = {
            tag: message.fence
            for tag, message in self.queue.messages.items()
            if message.state is State.LEASED and (message.lease_until or 0) <= self.now
        }
        reaped = self.queue.reap(self.now, limit=limit)
        for task, fence in zip(reaped.requeued, reaped.fences, strict=True):
            assert lapsed[task.removeprefix("task-")] == fence
        for task in (*reaped.expired, *reaped.withdrawn):
            self.left(task.removeprefix("task-"), "reaped")
        moved = {task.removeprefix("task-") for task in (*reaped.requeued, *reaped.dead, *reaped.withdrawn)}
        assert moved <= set(lapsed), "a lease that still runs is nobody else's"

    @rule(ms=st.integers(0, 400), place=st.sampled_from(PLACES))
    def ages(self, ms: int, place: tuple[str, str]) -> None:
        self.queue.rerank(self.now, lane=place[0], starves_after_ms=ms, limit=5)

    @invariant()
    def nothing_is_lost_and_nothing_comes_back(self) -> None:
        assert self.submitted == set(self.gone) | set(self.queue.messages)
        assert not set(self.gone) & set(self.queue.messages)

    @invariant()
    def attempts_are_charged_once_and_never_beyond_the_limit(self) -> None:
        for tag, message in self.queue.messages.items():
            assert message.attempts == self.charged.get(tag, 0) <= message.max_attempts
            assert message.fence == self.highest.get(tag, 0)
            assert (message.lease_until is None) == (message.state is not State.LEASED)

    @invariant()
    def a_bell_rings_wherever_something_waits(self) -> None:
        for message in self.queue.ready(PLACES):
            assert self.queue.bells.get((message.lane, message.model), 0) >= 1


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.sampled_from(PLACES)), max_size=20))
def test_order_is_rank_then_tag(messages: list[tuple[int, int, tuple[str, str]]]) -> None:
    queue = ReferenceQueue()
    ranked = []
    for number, (band, budget_ms, place) in enumerate(messages):
        submit(queue, NOW, f"t{number:02}", place, band=band, budget_ms=budget_ms)
        ranked.append((rank(band, NOW + budget_ms), f"t{number:02}"))
    served = [delivery.tag for delivery in iter(lambda: pick(queue, NOW), None)]
    assert served == [tag for _, tag in sorted(ranked)]


@given(st.integers(2, 12), st.integers(1, 6))
def test_a_basic_message_is_picked_within_a_bound_under_an_endless_flood(one_in: int, waiting: int) -> None:
    """Every basic message that starves is served within `one_in` picks for each that is older than it."""
    queue, served, picks = ReferenceQueue(), [], 0
    for number in range(waiting):
        submit(queue, NOW + number, f"basic{number}", PLACES[2], band=2, budget_ms=60_000)
    now = NOW + 20_000
    queue.rerank(now, lane="basic.light", starves_after_ms=10_000, limit=100)
    while len(served) < waiting:
        submit(queue, now + picks, f"vip{picks}")
        submit(queue, now + picks, f"vip{picks}b")
        delivery = pick(queue, now + picks, one_in)
        assert delivery is not None
        picks += 1
        if delivery.tag.startswith("basic"):
            served.append(delivery.tag)
        assert picks <= one_in * (len(served) + 1)
    assert served == [f"basic{number}" for number in range(waiting)]


@given(st.integers(2, 12))
def test_without_aging_the_flood_would_never_let_it_through(one_in: int) -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "basic", PLACES[2], band=2)
    for number in range(3 * one_in):
        submit(queue, NOW + number, f"vip{number}")
        delivery = pick(queue, NOW + number, one_in)
        assert delivery is not None
        assert delivery.tag == f"vip{number}"


@given(st.integers(2, 12), st.integers(1, 60))
def test_the_aging_lane_takes_at_most_one_pick_in_n_while_others_wait(one_in: int, picks: int) -> None:
    queue = ReferenceQueue()
    for number in range(picks + 1):
        submit(queue, NOW, f"vip{number:03}")
        submit(queue, NOW - 1, f"aged{number:03}", PLACES[2], band=2)
    queue.rerank(NOW, lane="basic.light", starves_after_ms=0, limit=1_000)
    deliveries = [pick(queue, NOW, one_in) for _ in range(picks)]
    tags = [delivery.tag for delivery in deliveries if delivery is not None]
    assert sum(tag.startswith("aged") for tag in tags) == picks // one_in


def test_aging_leaves_the_rank_alone_and_lifts_each_once() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "old", PLACES[2], band=2)
    submit(queue, NOW + 5_000, "new", PLACES[2], band=2)
    before = queue.messages["old"].rank
    assert queue.rerank(NOW + 6_000, lane="basic.light", starves_after_ms=3_000, limit=10) == ["task-old"]
    assert queue.rerank(NOW + 6_000, lane="basic.light", starves_after_ms=3_000, limit=10) == []
    assert queue.messages["old"].rank == before


def test_a_cancelled_attempt_does_not_come_back() -> None:
    for outcome in ("requeue", "reap"):
        queue = ReferenceQueue()
        submit(queue, NOW, "t")
        delivery = pick(queue, NOW)
        assert delivery is not None
        assert queue.withdraw(task="task-t") == 2
        assert queue.renew(NOW, lease_ms=LEASE_MS, leases=[("t", delivery.fence)]) == [2]
        if outcome == "requeue":
            assert queue.settle(0, tag="t", fence=delivery.fence, outcome="requeue") == 2
        else:
            assert queue.reap(NOW + LEASE_MS, limit=1).withdrawn == ("task-t",)
        assert queue.messages == queue.tasks == {}


def test_the_last_lost_attempt_is_kept_dead_and_can_be_taken_out() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t", max_attempts=2)
    for attempt in (1, 2):
        assert pick(queue, NOW) is not None
        reaped = queue.reap(NOW + LEASE_MS, limit=9)
        assert (reaped.requeued, reaped.dead) == ((("task-t",), ()) if attempt == 1 else ((), ("task-t",)))
    assert queue.messages["t"].payload == "of t"
    assert pick(queue, NOW) is None
    assert queue.withdraw(task="task-t") == 1
    assert queue.messages == {}


def test_a_known_tag_is_queued_once_and_a_newer_message_owns_the_task() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t")
    assert (
        queue.submit(
            NOW, tag="t", task="x", lane="l", model="", band=0, budget_ms=0, ttl_ms=0, max_attempts=1, payload=""
        )
        == 0
    )
    again = {"lane": "vip.light", "model": "m", "band": 0, "budget_ms": 900, "ttl_ms": 0, "max_attempts": 1}
    assert queue.submit(NOW, tag="u", task="task-t", payload="", **again) == 2  # type: ignore[arg-type]
    first = pick(queue, NOW)
    assert first is not None
    assert queue.settle(0, tag="t", fence=first.fence, outcome="done") == 1
    assert queue.withdraw(task="task-t") == 1
    assert queue.messages == {}


def test_a_dead_letter_is_kept_until_it_is_taken_back() -> None:
    queue = ReferenceQueue()
    submit(queue, NOW, "t")
    first = pick(queue, NOW)
    assert first is not None
    assert queue.settle(NOW + 1, tag="t", fence=first.fence, outcome="dead") == 1
    assert (queue.messages["t"].dead_since, pick(queue, NOW), queue.reap(NOW + 10**9, limit=9)) == (
        NOW + 1,
        None,
        Reaped(),
    )
    assert queue.withdraw(task="task-t") == 1
    assert queue.messages == {}


def test_purge_drops_the_oldest_of_one_lane_and_leaves_leases() -> None:
    queue = ReferenceQueue()
    for number in range(4):
        submit(queue, NOW + number, f"t{number}", budget_ms=1_000 - number)
    submit(queue, NOW, "other", PLACES[2])
    leased = pick(queue, NOW)
    assert leased is not None
    assert leased.tag == "other" or leased.tag == "t0"
    assert queue.purge(lane="vip.light", limit=2) == 2
    assert queue.purge(lane="vip.light", limit=9) in (1, 2)
    assert queue.purge(lane="vip.light", limit=9) == 0
    assert leased.tag in queue.messages


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

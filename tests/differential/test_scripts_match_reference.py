"""Do the Lua scripts do exactly what the reference says? Random commands on both; results and whole states compared."""

from __future__ import annotations

import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support import snapshots

GROUP = "differential"
LANES = ["vip.light", "basic.light", "basic.heavy"]
MODELS = ["", "small", "large:8b"]
PLACES = [(lane, model) for lane in LANES for model in MODELS]
# Few tags and fewer tasks, so that duplicates, late fences and reused task ids happen all the time.
TAGS = st.sampled_from([f"tag{number}" for number in range(24)])
TASKS = st.sampled_from([f"task{number}" for number in range(10)])
RECENT = st.integers(0, 5)


class QueueMachine(RuleBasedStateMachine):
    """Runs each command on the scripts and on the reference, at the same instant."""

    client: redis.Redis

    @initialize()
    def begin(self) -> None:
        self.client.flushdb()
        self.scripts = Scripts(self.client, GROUP)
        self.reference = ReferenceQueue()
        self.now = 1_800_000_000_000
        self.deliveries: list[tuple[str, int]] = [("never-seen", 1)]

    def same(self, ours: Any, theirs: Any) -> None:
        assert ours == theirs, (ours, theirs)

    @rule(
        messages=st.lists(
            st.fixed_dictionaries(
                {
                    "tag": TAGS,
                    "task": TASKS,
                    "place": st.sampled_from(PLACES),
                    "band": st.integers(0, 2),
                    "budget_ms": st.integers(0, 10_000),
                    "ttl_ms": st.one_of(st.just(0), st.integers(1, 10_000)),
                    "max_attempts": st.integers(1, 3),
                }
            ),
            min_size=1,
            max_size=6,
        )
    )
    def submit(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            lane, model = message.pop("place")
            message |= {"lane": lane, "model": model, "payload": f"body of {message['tag']}"}
            self.same(self.scripts.submit(**message, now_ms=self.now), self.reference.submit(self.now, **message))

    @rule(
        places=st.lists(st.sampled_from(PLACES), unique=True, max_size=len(PLACES)),
        lease_ms=st.integers(1, 5_000),
        aged_one_in=st.integers(2, 4),
    )
    def dispatch(self, **how: Any) -> None:
        self.dispatched(**how)

    @rule(lease_ms=st.integers(1, 5_000), aged_one_in=st.integers(2, 3), times=st.integers(1, 4))
    def dispatch_anywhere(self, times: int, **how: Any) -> None:
        for _ in range(times):
            self.dispatched(places=PLACES, **how)

    def dispatched(self, **how: Any) -> None:
        delivery = self.scripts.dispatch(holder="worker", now_ms=self.now, **how)
        self.same(delivery, self.reference.dispatch(self.now, holder="worker", **how))
        if delivery:
            self.deliveries.append((delivery.tag, delivery.fence))

    def recent(self, how_far_back: int) -> tuple[str, int]:
        return self.deliveries[max(-len(self.deliveries), -1 - how_far_back)]

    @rule(which=st.lists(RECENT, min_size=1, max_size=4), lease_ms=st.integers(1, 5_000))
    def renew(self, which: list[int], lease_ms: int) -> None:
        leases = [self.recent(back) for back in which]
        self.same(
            self.scripts.renew(lease_ms=lease_ms, leases=leases, now_ms=self.now),
            self.reference.renew(self.now, lease_ms=lease_ms, leases=leases),
        )

    @rule(
        whiches=st.lists(RECENT, min_size=1, max_size=4, unique=True),
        outcome=st.sampled_from(["done", "requeue", "dead"]),
    )
    def settle(self, whiches: list[int], outcome: Any) -> None:
        for which in whiches:
            self.settled(*self.recent(which), outcome)

    def settled(self, tag: str, fence: int, outcome: Any) -> None:
        self.same(
            self.scripts.settle(tag=tag, fence=fence, outcome=outcome, now_ms=self.now),
            self.reference.settle(self.now, tag=tag, fence=fence, outcome=outcome),
        )

    @rule(task=TASKS, lane=st.sampled_from(LANES), limit=st.integers(1, 3), purge=st.booleans())
    def take_back(self, task: str, lane: str, limit: int, purge: bool) -> None:
        if purge:
            self.purge(lane, limit)
            self.client.script_flush()
        else:
            self.withdraw(task)

    def withdraw(self, task: str) -> None:
        self.same(self.scripts.withdraw(task=task, now_ms=self.now), self.reference.withdraw(task=task))

    @rule(lane=st.sampled_from(LANES), starves_after_ms=st.integers(0, 5_000), limit=st.integers(1, 5))
    def rerank(self, **what: Any) -> None:
        self.same(self.scripts.rerank(**what, now_ms=self.now), self.reference.rerank(self.now, **what))

    @rule(limit=st.integers(1, 5), later_ms=st.integers(0, 6_000))
    def reap(self, limit: int, later_ms: int) -> None:
        self.now += later_ms
        self.same(self.scripts.reap(limit=limit, now_ms=self.now), self.reference.reap(self.now, limit=limit))

    def purge(self, lane: str, limit: int) -> None:
        self.same(
            self.scripts.purge(lane=lane, limit=limit, now_ms=self.now), self.reference.purge(lane=lane, limit=limit)
        )

    @rule(ms=st.integers(-1_000, 3_000))
    def clock_moves(self, ms: int) -> None:
        """Forward, and sometimes back: a failover may bring a server whose clock is behind."""
        self.now += ms

    @invariant()
    def whole_state_is_equal(self) -> None:
        if hasattr(self, "reference"):
            assert snapshots.of_redis(self.client, GROUP) == snapshots.of_reference(self.reference)


@pytest.mark.timeout(900)
def test_scripts_match_reference(redis_client: redis.Redis) -> None:
    """TEST_STEPS sets how many commands are run in all (default 2,500)."""
    steps = int(os.environ.get("TEST_STEPS", "2500"))
    machine = type("Machine", (QueueMachine,), {"client": redis_client})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, steps // 50),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

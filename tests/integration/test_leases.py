"""Does a process keep its leases while it lives, settle when it can, and stop what it lost?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from qosqueue.broker.address import connect
from qosqueue.broker.leases import LEASE_LOST, LeaseTable, receipt_of
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.reference.message import Delivery
from tests.support import snapshots
from tests.support.eventually import eventually
from tests.support.messages import submission
from tests.support.road import OwnBroker

GROUP = "leases"
PLACE = ("vip.light", "m")
FAR_MS = 10**13


class Holder:
    """A lease table, the scripts behind it, and what it was told."""

    def __init__(self, connect: Any, lease_ms: int) -> None:
        self.lease_ms = lease_ms
        self.client: redis.Redis = connect()
        self.scripts = Scripts(self.client, GROUP)
        self.stopped: list[tuple[str, str, int]] = []
        self.told = threading.Event()
        self.table = LeaseTable(connect, GROUP, lease_ms=lease_ms, capacity={"m": 2}, on_stop=self._stop)

    def lease(self, tag: str = "t") -> Delivery:
        """Submit, pick and hold one message."""
        self.scripts.submit(**submission(tag, lane=PLACE[0], model=PLACE[1]))
        return self.pick()

    def pick(self) -> Delivery:
        """Pick and hold the next message."""
        found = self.scripts.dispatch(lease_ms=self.lease_ms, holder="h", places=[PLACE])
        assert isinstance(found, Delivery)
        self.table.hold(found)
        return found

    def left(self) -> set[str]:
        """The group's keys, without what is learned and counted for ever."""
        return {key for key in snapshots.of_redis(self.client, GROUP) if not key.startswith(snapshots.KEPT)}

    def until(self, tag: str = "t") -> float:
        """The end of a lease (server's ms), 0 without one."""
        score: Any = self.client.zscore(f"{self.scripts.key}:leases", tag)
        return score or 0.0

    def _stop(self, task: str, reason: str, fence: int) -> None:
        self.stopped.append((task, reason, fence))
        self.told.set()
        if task == "task-stubborn":
            raise ZeroDivisionError("this one cannot be stopped")


@pytest.fixture
def holder(redis_client: redis.Redis) -> Iterator[Holder]:
    made = Holder(lambda: redis.Redis(connection_pool=redis_client.connection_pool), lease_ms=300)
    yield made
    made.table.give_back()


def test_a_lease_is_renewed_for_as_long_as_it_is_held(holder: Holder) -> None:
    delivery = holder.lease()
    eventually(lambda: holder.until() > delivery.lease_until + 3 * holder.lease_ms, within_s=10)
    assert holder.stopped == []
    holder.table.settle(receipt_of(delivery), "done")
    assert holder.until() == 0
    assert holder.table.held(receipt_of(delivery)) is None


def test_slots_are_counted_by_model(holder: Holder) -> None:
    assert holder.table.has_slot("m")
    first, _ = holder.lease("t"), holder.lease("u")
    assert not holder.table.has_slot("m")
    assert holder.table.has_slot("unknown")
    holder.table.settle(receipt_of(first), "requeue")
    assert holder.table.has_slot("m")


def test_who_lost_the_lease_is_told_once_and_the_others_live_on(holder: Holder) -> None:
    holder.lease("stubborn")
    other = holder.lease("u")
    holder.scripts.reap(limit=1, now_ms=FAR_MS)
    assert holder.told.wait(5)
    eventually(lambda: holder.until("u") > other.lease_until + 2 * holder.lease_ms, within_s=10)
    assert holder.stopped == [("task-stubborn", LEASE_LOST, 1)]


def test_who_is_cancelled_is_told_and_keeps_the_lease_until_it_ends(holder: Holder) -> None:
    delivery = holder.lease()
    assert holder.scripts.withdraw(task="task-t") == 2
    assert holder.told.wait(5)
    assert holder.stopped == [("task-t", "cancelled", 1)]
    assert holder.until() > 0
    holder.table.settle(receipt_of(delivery), "requeue")
    assert holder.left() <= {"bell:9:vip.light:m"}


def test_two_attempts_of_one_message_in_one_process_settle_apart(holder: Holder) -> None:
    first = holder.lease()
    holder.scripts.reap(limit=1, now_ms=FAR_MS)
    second = holder.pick()
    assert (first.tag, second.fence) == (second.tag, 2)
    holder.table.settle(receipt_of(first), "done")
    assert holder.table.held(receipt_of(second)) == second
    assert holder.until() > 0
    holder.table.settle(receipt_of(second), "done")
    assert holder.until() == 0


def test_what_is_given_back_is_queued_at_its_place_and_not_charged(holder: Holder) -> None:
    holder.lease()
    before = snapshots.of_redis(holder.client, GROUP)["msg:t"]["score"]
    holder.table.give_back()
    message = snapshots.of_redis(holder.client, GROUP)["msg:t"]
    assert (message["state"], message["attempts"], message["score"]) == ("queued", "0", before)


def test_a_settle_waits_for_a_server_that_restarts(own_broker: OwnBroker) -> None:
    holder = Holder(own_broker.client, lease_ms=3_000)
    deliveries = [holder.lease("t"), holder.lease("u")]
    own_broker.stop()
    for delivery in deliveries:
        holder.table.settle(receipt_of(delivery), "done")
    own_broker.start()
    eventually(lambda: not holder.left(), within_s=10)
    holder.table.give_back()
    assert holder.stopped == []


def test_what_still_waits_is_settled_when_the_process_ends(own_broker: OwnBroker) -> None:
    holder = Holder(lambda: connect(own_broker.settings, socket_timeout_s=0.2), lease_ms=60_000)
    delivery = holder.lease()
    os.kill(own_broker.process.pid, signal.SIGSTOP)
    try:
        holder.table.settle(receipt_of(delivery), "done")
    finally:
        os.kill(own_broker.process.pid, signal.SIGCONT)
    holder.table.give_back()
    eventually(lambda: not holder.left(), within_s=2)


def test_leases_outlive_a_server_that_was_away_for_less(own_broker: OwnBroker) -> None:
    holder = Holder(own_broker.client, lease_ms=1_500)
    delivery = holder.lease()
    own_broker.stop()
    own_broker.start()
    eventually(lambda: holder.until() > delivery.lease_until + holder.lease_ms, within_s=10)
    assert holder.stopped == []
    holder.table.give_back()


def test_what_nobody_works_on_is_given_back_soon_and_the_rest_is_kept(holder: Holder) -> None:
    running, idle = holder.lease("running"), holder.lease("idle")
    holder.table.give_back_idle([receipt_of(running), receipt_of(idle), "unknown:1"], lambda task: task == running.task)
    assert holder.table.held(receipt_of(idle))
    eventually(lambda: not holder.table.held(receipt_of(idle)), within_s=5)
    assert holder.pick().tag == "idle"
    assert holder.table.held(receipt_of(running))


def test_a_forked_child_that_ends_leaves_its_parent_s_leases_alone(holder: Holder) -> None:
    delivery = holder.lease()
    child = os.fork()
    if child == 0:
        holder.table.give_back()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert holder.scripts.renew(lease_ms=300, leases=[(delivery.tag, delivery.fence)]) == [1]

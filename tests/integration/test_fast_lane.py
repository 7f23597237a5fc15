"""Do the fast lane and Celery's consumer share one worker: its slots, messages and signals, and each other's end?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import redis
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import INFER_TASK, make_celery
from qosqueue.broker.leases import LeaseTable, receipt_of
from qosqueue.broker.outbox import Outbox
from qosqueue.broker.publish import Publisher
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import StoreUnavailable
from qosqueue.policy.profile import Facts, Profile, make_profile
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.settings import Settings
from qosqueue.store.clock import now_ms
from qosqueue_workers.app import make_lane, register_tasks
from qosqueue_workers.attempt import AttemptRunner
from qosqueue_workers.celery_step import Attendant, FastLaneStep
from qosqueue_workers.engines.base import CANCELLED, Completion, Emit, EngineRequest
from qosqueue_workers.fast_lane import CLAIM_S, FastLane
from tests.support import snapshots
from tests.support.broker import MakeSettings
from tests.support.eventually import eventually
from tests.support.messages import header, submission

LANE, MODEL = "vip.light", "m"
PROFILE: Profile = make_profile(Facts(Tier.VIP, WeightClass.LIGHT, TaskType.ASYNC, 10, 10))
WITHIN_S = 15.0


class GatedEngine:
    """An engine whose requests run until their gate is opened; those without a gate end at once."""

    def __init__(self) -> None:
        self.gates: dict[str, threading.Event] = {}
        self.cancelled: set[str] = set()
        self.faults: dict[str, list[Exception]] = {}
        self.ran: list[tuple[str, str]] = []
        self.now = self.most = 0
        self._lock = threading.Lock()

    def run(self, name: str) -> None:
        """Occupy a slot, as `name`, until its gate opens; remember on which thread."""
        with self._lock:
            self.ran.append((name, threading.current_thread().name))
            self.now += 1
            self.most = max(self.most, self.now)
        gate = self.gates.get(name)
        if gate is not None:
            assert gate.wait(30)
        with self._lock:
            self.now -= 1

    def stream(self, call: EngineRequest, emit: Emit) -> Completion:
        name = call.id.partition(":")[0]
        self.run(name)
        if self.faults.get(name):
            raise self.faults[name].pop()
        return Completion("text", CANCELLED if name in self.cancelled else "stop", 1, 1)

    def cancel(self, request_id: str) -> bool:
        name = request_id.partition(":")[0]
        self.cancelled.add(name)
        if name in self.gates:
            self.gates[name].set()
        return True

    def names(self) -> list[str]:
        return [name for name, _ in self.ran]

    def threads_of(self, name: str) -> list[str]:
        return [thread.rpartition("-")[0] for ran, thread in self.ran if ran == name]


class Record:
    """The job record, in memory: the words it was given, with their fence."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str, int]] = []

    def begin(self, job_id: str, fence: int, worker: str) -> dict[str, Any]:
        return {"messages": []}

    def finish(self, job_id: str, fence: int, result: dict[str, Any], **_: int) -> bool:
        self.words.append((job_id, "finish", fence))
        return True

    def cancelled(self, job_id: str, fence: int) -> bool:
        self.words.append((job_id, "cancelled", fence))
        return True

    def fail(self, job_id: str, fence: int, error: dict[str, Any]) -> bool:
        self.words.append((job_id, "fail", fence))
        return True


class World:
    """A Celery worker in this process with a fast lane, and whoever publishes to it."""

    def __init__(self, settings: Settings, client: redis.Redis, slots: int) -> None:
        self.settings, self.client = settings, client
        self.scripts = Scripts(client, settings.group)
        self.engine, self.record = GatedEngine(), Record()
        outbox = Outbox(self.scripts)
        self.runner = AttemptRunner({MODEL: cast(Any, self.engine)}, cast(Any, self.record), outbox, "w")
        self.table = LeaseTable(
            lambda: connect(settings),
            settings.group,
            lease_ms=settings.lease_ms,
            capacity={MODEL: slots},
            on_stop=self.runner.stop,
        )
        self.app: Celery = make_celery(settings, lease_table=self.table)
        register_tasks(self.app, self.runner, self.table)
        self.app.steps["worker"].add(FastLaneStep)
        self.app.task(name="host.task", shared=False)(self.engine.run)
        self.outside: Celery = make_celery(settings)
        self.publisher = Publisher(self.outside, settings, self.scripts)
        self.lanes: list[FastLane] = []

        def make(worker: Any) -> FastLane:
            attendant = Attendant(worker, self.runner, self.table, self.scripts, outbox)
            self.lanes.append(make_lane(settings, self.table, self.scripts, [LANE], attendant.serve, "w"))
            return self.lanes[-1]

        self._make = make

    @property
    def lane(self) -> FastLane:
        return self.lanes[-1]

    def request(self, name: str, *, gated: bool = False) -> threading.Event:
        """Publish a request; if it is gated, it runs until the returned event is set."""
        gate = threading.Event()
        if gated:
            self.engine.gates[name] = gate
        message = {
            "id": name,
            "model": MODEL,
            "endpoint": "/v1/chat/completions",
            "created_ms": now_ms(),
            "expires_ms": now_ms() + 60_000,
            "reply": None,
            "stream": False,
            "body": None,
        }
        self.publisher.publish(name, MODEL, "acme", "acme", PROFILE, message)
        return gate

    def host_task(self, name: str, model: str = MODEL) -> None:
        """Publish somebody else's task, for a slot of the model or for none."""
        self.outside.send_task("host.task", args=[name], task_id=name, queue=LANE, headers=header(model=model))

    def has_run(self, *names: str, within_s: float = WITHIN_S) -> None:
        """Return once these have begun."""
        eventually(lambda: set(names) <= set(self.engine.names()), within_s=within_s)

    def empty(self) -> bool:
        """Whether nothing is left of any message."""
        left = snapshots.of_redis(self.client, self.settings.group)
        return not [key for key in left if key.startswith(("msg:", "leases", "tasks", "waiting"))]

    @contextmanager
    def working(self) -> Iterator[None]:
        """The worker; ends, with what it runs, when the block does."""
        with start_worker(
            self.app,
            pool="threads",
            concurrency=sum(self.table.capacity.values()),
            queues=[LANE],
            perform_ping_check=False,
            loglevel="ERROR",
            shutdown_timeout=20,
            fast_lane=self._make,
        ):
            try:
                yield
            finally:
                for gate in self.engine.gates.values():
                    gate.set()

    def close(self) -> None:
        self.table.give_back()
        self.outside.close()
        self.app.close()


@pytest.fixture
def make_world(make_settings: MakeSettings, redis_client: redis.Redis) -> Iterator[Any]:
    made: list[World] = []

    def make(slots: int = 2, **changes: Any) -> World:
        made.append(World(make_settings(**changes), redis_client, slots))
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_requests_take_the_lane_and_a_hosts_tasks_the_pool_within_the_same_slots(make_world: Any) -> None:
    world = make_world(slots=2)
    with world.working():
        for number in range(30):
            world.request(f"ours{number}")
            world.host_task(f"theirs{number}")
        eventually(lambda: len(world.engine.ran) >= 60, within_s=WITHIN_S)
        eventually(world.empty, within_s=5)
    assert len(set(world.engine.names())) == len(world.engine.ran) == 60
    assert world.engine.most <= 2
    for number in range(30):
        assert world.engine.threads_of(f"ours{number}") == ["fast-lane"]
        assert world.engine.threads_of(f"theirs{number}") != ["fast-lane"]
    assert {word for _, word, _ in world.record.words} == {"finish"}


def test_a_host_task_without_a_model_needs_no_slot(make_world: Any) -> None:
    world = make_world(slots=1)
    with world.working():
        gate = world.request("long", gated=True)
        world.has_run("long")
        world.host_task("free", model="")
        world.has_run("free")
        gate.set()


@pytest.mark.alone
def test_a_freed_slot_is_filled_at_once(make_world: Any) -> None:
    world = make_world(slots=1)
    waits = []
    with world.working():
        gate = world.request("r0", gated=True)
        world.has_run("r0")
        for number in range(1, 8):
            following = world.request(f"r{number}", gated=True)
            freed = time.perf_counter()
            gate.set()
            world.has_run(f"r{number}")
            waits.append(time.perf_counter() - freed)
            gate = following
    assert sorted(waits)[len(waits) // 2] < 0.1, waits


def test_a_lane_that_died_leaves_everything_to_the_consumer(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(slots=1)
    with world.working():
        world.request("before")
        world.has_run("before")
        monkeypatch.setattr(world.lane._picks, "wait", lambda *_: 1 / 0)
        for number in range(3):
            world.request(f"after{number}")
        world.has_run("after0", "after1", "after2")
        eventually(world.empty, within_s=5)
    assert world.engine.threads_of("before") == ["fast-lane"]
    # The wait that was pending when it died still brought one message; the lane has run it.
    late = [name for name in ("after0", "after1", "after2") if world.engine.threads_of(name) != ["fast-lane"]]
    assert len(late) >= 2
    assert world.engine.most == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fast-lane")]


def test_a_lane_that_hangs_loses_its_claim(make_world: Any) -> None:
    world = make_world(slots=1)
    with world.working():
        world.request("before")
        world.has_run("before")
        # Whoever has the turn is held up for longer than the claim lasts.
        stuck = threading.Event()
        listen = world.table.listen
        world.table.listen = lambda who, models: (
            listen(who, models) if who is not world.lane else stuck.wait(30) and frozenset()
        )
        world.request("bait")  # ends the wait that is pending
        world.has_run("bait")
        world.request("after")
        world.has_run("after", within_s=CLAIM_S + 5)
        stuck.set()
    assert world.engine.threads_of("after") != ["fast-lane"]


@pytest.mark.parametrize("fault", ["function flush", "connections killed"])
def test_it_goes_on_after(make_world: Any, fault: str) -> None:
    world = make_world()
    with world.working():
        for number in range(4):
            world.request(f"before{number}")
        world.has_run("before3")
        if fault == "function flush":
            world.client.function_flush()
        else:
            world.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for number in range(4):
            world.request(f"after{number}")
        world.has_run(*(f"after{number}" for number in range(4)))
        eventually(world.empty, within_s=5)
    assert len(world.engine.ran) == 8


def test_what_comes_while_the_lane_closes_goes_back_to_its_place(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    hold = world.table.hold

    def closing(delivery: Any, listener: Any = None) -> None:
        hold(delivery, listener)
        world.lane._closing.set()

    with world.working():
        monkeypatch.setattr(world.table, "hold", closing)
        # The consumer must not take it up in this test.
        world.table.claim(60)
        world.request("late")
        eventually(lambda: not world.lane._threads[0].is_alive(), within_s=5)
        state = snapshots.of_redis(world.client, world.settings.group)
        (message,) = [value for key, value in state.items() if key.startswith("msg:")]
        assert (message["state"], message["attempts"], message["fence"]) == ("queued", "0", "1")
        monkeypatch.undo()
    assert world.engine.ran == []


def test_the_worker_stops_when_what_runs_has_ended_and_takes_nothing_more(make_world: Any) -> None:
    world = make_world(slots=1)
    with world.working():
        gate = world.request("running", gated=True)
        world.has_run("running")
        world.request("waiting")
        opening = threading.Timer(0.3, gate.set)
        world.engine.gates.clear()
        opening.start()
    opening.join()
    assert ("running", "finish", 1) in world.record.words
    assert world.engine.names() == ["running"] or ("waiting", "finish", 1) in world.record.words
    world.table.give_back()
    assert "leases" not in snapshots.of_redis(world.client, world.settings.group)


def test_an_attempt_whose_lease_is_lost_is_stopped_and_settles_nothing(make_world: Any) -> None:
    world = make_world(slots=1, lease_ms=600)
    with world.working():
        world.request("slow", gated=True)
        world.has_run("slow")
        (held,) = world.table._held.values()
        # Somebody else has it now.
        world.client.hset(f"{world.scripts.key}:msg:{held.tag}", "fence", held.fence + 1)
        eventually(lambda: "slow" in world.engine.cancelled, within_s=5)
        eventually(lambda: world.table.held(receipt_of(held)) is None, within_s=5)
        assert world.record.words == []
        assert world.client.zcard(f"{world.scripts.key}:leases") == 1


def test_an_outcome_that_cannot_be_written_sends_the_message_back(make_world: Any) -> None:
    world = make_world(slots=1)
    world.engine.faults["r"] = [StoreUnavailable("away")]
    with world.working():
        world.request("r")
        eventually(lambda: world.record.words == [("r", "finish", 2)], within_s=WITHIN_S)
        eventually(world.empty, within_s=5)


def test_inspect_sees_it_and_revoke_ends_it(make_world: Any) -> None:
    world = make_world(slots=1)
    told: list[tuple[str, str]] = []

    def prerun(task_id: str, task: Any, **_: Any) -> None:
        told.append(("prerun", task_id))
        assert task.name == INFER_TASK

    def postrun(task_id: str, state: str, **_: Any) -> None:
        told.append((f"postrun {state}", task_id))

    signals.task_prerun.connect(prerun)
    signals.task_postrun.connect(postrun)
    try:
        with world.working():
            world.request("seen", gated=True)
            world.has_run("seen")
            ((entry,),) = world.outside.control.inspect(timeout=3).active().values()
            assert (entry["id"], entry["name"], entry["delivery_info"]["routing_key"]) == ("seen", INFER_TASK, LANE)
            world.outside.control.revoke("seen", terminate=True)
            eventually(lambda: ("seen", "cancelled", 1) in world.record.words, within_s=WITHIN_S)
            eventually(lambda: len(told) == 2, within_s=5)
            eventually(world.empty, within_s=5)
    finally:
        signals.task_prerun.disconnect(prerun)
        signals.task_postrun.disconnect(postrun)
    assert told == [("prerun", "seen"), ("postrun SUCCESS", "seen")]


def test_a_request_that_was_revoked_before_it_came_never_runs(make_world: Any) -> None:
    world = make_world(slots=1)
    with world.working():
        world.outside.control.broadcast("revoke", arguments={"task_id": "never"}, reply=True, timeout=3)
        world.request("never")
        world.request("other")
        world.has_run("other")
        eventually(world.empty, within_s=5)
    assert world.engine.names() == ["other"]


def test_a_message_that_is_none_of_kombus_becomes_a_dead_letter_and_stops_nobody(make_world: Any) -> None:
    world = make_world(slots=1, lease_ms=600)
    with world.working():
        for tag, payload in (("t1", "no json"), ("t2", json.dumps({"headers": {"task": INFER_TASK}}))):
            fields = {"lane": LANE, "model": MODEL, "max_attempts": 1, "payload": payload}
            world.scripts.submit(**submission(tag, **fields))
        world.request("sound")
        world.has_run("sound")

        def both_dead() -> bool:
            world.scripts.reap(limit=9)
            return bool(world.client.zcard(f"{world.scripts.key}:dead") == 2)

        eventually(both_dead, within_s=WITHIN_S)

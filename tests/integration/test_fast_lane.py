"""Do the fast lane and Celery's consumer share one worker: its slots, messages and signals, and each other's end?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import signals

from qosqueue.broker.celery_app import INFER_TASK
from qosqueue.broker.leases import receipt_of
from qosqueue.errors import EngineError, StoreUnavailable
from qosqueue_workers.fast_lane import RESERVED_S
from tests.support import snapshots
from tests.support.broker import MakeSettings
from tests.support.eventually import eventually
from tests.support.fast_lane_world import LANE, MODEL, PROFILE, WITHIN_S, World
from tests.support.messages import submission


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


def test_a_lane_that_hangs_loses_its_models(make_world: Any) -> None:
    world = make_world(slots=1)
    with world.working():
        world.request("before")
        world.has_run("before")
        # Whoever has the turn is held up for longer than the models are reserved.
        stuck = threading.Event()
        listen = world.table.listen
        world.table.listen = lambda who, models: (
            listen(who, models) if who is not world.lane else stuck.wait(30) and frozenset()
        )
        world.request("bait")  # ends the wait that is pending
        world.has_run("bait")
        world.request("after")
        world.has_run("after", within_s=RESERVED_S + 5)
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
        world.table.reserve(60)
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


class TakenBack:
    """The road of a job that its tenant takes back while another way is looked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.went: list[Any] = []

    def find(self, job_id: str, fence: int) -> str:
        assert self._world.scripts.withdraw(task=job_id) == 2
        return job_id

    def go(self, way: str) -> bool:
        self.went.append(way)
        return True


def test_a_job_that_is_taken_back_while_another_way_is_looked_for_ends_as_cancelled(make_world: Any) -> None:
    world = make_world(slots=1)
    world.detours = TakenBack(world)
    attempts = PROFILE.max_attempts
    world.engine.faults["r"] = [EngineError("broken") for _ in range(attempts)]
    with world.working():
        world.request("r")
        eventually(lambda: ("r", "cancelled", attempts) in world.record.words, within_s=WITHIN_S)
        eventually(world.empty, within_s=5)
    assert world.detours.went == []
    assert not [word for _, word, _ in world.record.words if word in ("fail", "finish")]


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

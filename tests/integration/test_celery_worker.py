"""Does a stock Celery worker keep to its slots, fill them at once, and run each task once?"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import make_celery
from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.scripts import Scripts
from qosqueue.settings import Settings
from tests.support import snapshots
from tests.support.broker import MakeSettings
from tests.support.eventually import eventually
from tests.support.messages import header

LANE, OTHER_LANE = "vip.light", "basic.light"


class Runs:
    """A worker in this process whose tasks run until they are told to end, and what it did."""

    def __init__(self, settings: Settings, client: redis.Redis, capacity: dict[str, int]) -> None:
        self.settings, self.client = settings, client
        self.scripts = Scripts(client, settings.group)
        self.table = LeaseTable(
            lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity=capacity
        )
        self.app: Celery = make_celery(settings, lease_table=self.table)
        self.publisher: Celery = make_celery(settings)
        self.capacity = capacity
        self.began: list[tuple[str, float]] = []
        self.gates: dict[str, threading.Event] = {}
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._lock = threading.Lock()
        self.app.task(name="hold", shared=False)(self._hold)
        self.app.task(name="swift", shared=False)(self._swift)

    def send(self, task: str, name: str, model: str, lane: str = LANE) -> None:
        """Publish one task of a model."""
        self.publisher.send_task(task, args=[name, model], task_id=name, queue=lane, headers=header(model=model))

    def hold(self, name: str, model: str, lane: str = LANE) -> threading.Event:
        """Publish a task that runs until the returned event is set."""
        gate = self.gates[name] = threading.Event()
        self.send("hold", name, model, lane)
        return gate

    def names(self) -> list[str]:
        """The tasks that began, in order."""
        return [name for name, _ in self.began]

    def wait_for(self, *names: str) -> None:
        """Return once these tasks have begun."""
        eventually(lambda: set(names) <= set(self.names()), within_s=10)

    def empty(self) -> bool:
        """Whether nothing is left of any message."""
        prefix = f"{self.scripts.key}:"
        names = [key.decode().removeprefix(prefix) for key in self.client.keys(f"{prefix}*")]
        return not [name for name in names if not name.startswith((*snapshots.KEPT, "bell:"))]

    def leases(self) -> dict[str, int]:
        """Each leased message and the end of its lease."""
        found: Any = self.client.zrange(f"{self.scripts.key}:leases", 0, -1, withscores=True)
        return {tag.decode(): int(until) for tag, until in found}

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker that serves both lanes; ends when the block does."""
        with start_worker(
            self.app,
            pool="threads",
            concurrency=sum(self.capacity.values()),
            queues=[LANE, OTHER_LANE],
            perform_ping_check=False,
            loglevel="ERROR",
            shutdown_timeout=20,
        ):
            try:
                yield
            finally:
                for gate in self.gates.values():
                    gate.set()

    def _begin(self, name: str, model: str) -> None:
        with self._lock:
            self.began.append((name, time.perf_counter()))
            self.running[model] = self.running.get(model, 0) + 1
            self.most[model] = max(self.most.get(model, 0), self.running[model])

    def _end(self, model: str) -> None:
        with self._lock:
            self.running[model] -= 1

    def _hold(self, name: str, model: str) -> None:
        self._begin(name, model)
        self.gates[name].wait(30)
        self._end(model)

    def _swift(self, name: str, model: str) -> None:
        self._begin(name, model)
        self._end(model)


@pytest.fixture
def make_runs(make_settings: MakeSettings, redis_client: redis.Redis) -> Iterator[Any]:
    made: list[Runs] = []

    def make(capacity: dict[str, int], **changes: Any) -> Runs:
        made.append(Runs(make_settings(**changes), redis_client, capacity))
        return made[-1]

    yield make
    for runs in made:
        runs.table.give_back()
        runs.publisher.close()
        runs.app.close()


def test_never_more_than_its_slots_and_everything_runs_once(make_runs: Any) -> None:
    runs = make_runs({"m": 2, "n": 1})
    with runs.working():
        for number in range(40):
            runs.send("swift", f"m{number}", "m", LANE if number % 2 else OTHER_LANE)
            runs.send("swift", f"n{number}", "n")
        eventually(lambda: len(runs.began) >= 80, within_s=20)
        eventually(runs.empty, within_s=5)
    assert len(runs.began) == len(set(runs.names())) == 80
    assert runs.most["m"] <= 2
    assert runs.most["n"] == 1


def test_a_full_model_waits_and_another_one_runs(make_runs: Any) -> None:
    runs = make_runs({"m": 2, "n": 1})
    with runs.working():
        first, second = runs.hold("m1", "m"), runs.hold("m2", "m")
        runs.wait_for("m1", "m2")
        runs.hold("m3", "m")
        runs.hold("n1", "n")
        runs.wait_for("n1")
        assert "m3" not in runs.names()
        assert len(runs.leases()) == 3
        first.set()
        second.set()
        runs.wait_for("m3")


@pytest.mark.alone
def test_a_freed_slot_is_filled_at_once_though_the_worker_listened_for_others(make_runs: Any) -> None:
    """All slots of m are taken, so the worker is armed for n alone; the end of an attempt must wake it."""
    runs = make_runs({"m": 1, "n": 1})
    waits = []
    with runs.working():
        gate = runs.hold("m0", "m")
        runs.wait_for("m0")
        for number in range(1, 8):
            following = runs.hold(f"m{number}", "m")
            freed = time.perf_counter()
            gate.set()
            runs.wait_for(f"m{number}")
            waits.append(runs.began[-1][1] - freed)
            gate = following
    assert statistics.median(waits) < 0.05, waits


@pytest.mark.alone
def test_a_wholly_full_worker_takes_the_next_task_at_once(make_runs: Any) -> None:
    runs = make_runs({"m": 1})
    waits = []
    with runs.working():
        gate = runs.hold("m0", "m")
        runs.wait_for("m0")
        for number in range(1, 8):
            following = runs.hold(f"m{number}", "m")
            freed = time.perf_counter()
            gate.set()
            runs.wait_for(f"m{number}")
            waits.append(runs.began[-1][1] - freed)
            gate = following
    assert statistics.median(waits) < 0.05, waits


def test_killed_connections_during_a_task_that_outlasts_its_lease(make_runs: Any) -> None:
    runs = make_runs({"m": 2}, lease_ms=600)
    with runs.working():
        gate = runs.hold("long", "m")
        runs.wait_for("long")
        runs.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        (first,) = runs.leases().values()
        # Three leases long it is renewed, and a sweep finds nothing lost.
        eventually(lambda: max(runs.leases().values()) > first + 1_800, within_s=10)
        assert runs.scripts.reap(limit=9).requeued == ()
        gate.set()
        eventually(runs.empty, within_s=10)
        runs.send("swift", "after", "m")
        runs.wait_for("after")
        eventually(runs.empty, within_s=10)
    assert runs.names() == ["long", "after"]


def test_a_worker_that_stops_leaves_no_lease_behind(make_runs: Any) -> None:
    runs = make_runs({"m": 1})
    with runs.working():
        gate = runs.hold("m0", "m")
        runs.wait_for("m0")
        for number in range(3):
            runs.send("swift", f"later{number}", "m")
        stopping = threading.Timer(0.2, gate.set)
        stopping.start()
    stopping.join()
    runs.table.give_back()
    state = snapshots.of_redis(runs.client, runs.settings.group)
    waiting = {key: value for key, value in state.items() if key.startswith("waiting")}
    ran = len(runs.began) - 1
    assert "leases" not in state
    assert sum(len(value) for value in waiting.values()) == 3 - ran
    assert all(value["attempts"] == "0" for key, value in state.items() if key.startswith("msg:"))


@pytest.mark.parametrize("fault", ["pickled", "unknown"])
def test_what_a_worker_must_not_or_cannot_run_is_kept_as_a_dead_letter(make_runs: Any, fault: str) -> None:
    """A pickled message is never unpickled; a task of another version is not thrown away."""
    runs = make_runs({"m": 2})
    name, serializer = ("swift", "pickle") if fault == "pickled" else ("swift_v2", "json")
    runs.publisher.send_task(
        name, args=["bad", "m"], task_id="bad", queue=LANE, headers=header(), serializer=serializer
    )
    with runs.working():
        runs.send("swift", "good", "m")
        runs.wait_for("good")
        eventually(lambda: runs.client.zcard(f"{runs.scripts.key}:dead") == 1, within_s=5)
    assert runs.names() == ["good"]

"""A worker with a fast lane and Celery's consumer, in this process, with an engine that waits at gates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import make_celery
from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.outbox import Outbox
from qosqueue.broker.publish import Publisher
from qosqueue.broker.replicas import Replicas
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.profile import Facts, Profile, make_profile
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.settings import Settings
from qosqueue.store.clock import now_ms
from qosqueue_workers.app import make_lane, register_tasks
from qosqueue_workers.attempt import AttemptRunner
from qosqueue_workers.breakers import ReplicaBreakers
from qosqueue_workers.celery_step import Attendant, FastLaneStep
from qosqueue_workers.engines.base import CANCELLED, Completion, Emit, EngineRequest
from qosqueue_workers.fast_lane import FastLane
from qosqueue_workers.serving import Serving
from tests.support import snapshots
from tests.support.eventually import eventually
from tests.support.messages import header

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

    def begin(self, job_id: str, fence: int, worker: str, passage: str) -> dict[str, Any]:
        return {"messages": []}

    def finish(self, job_id: str, fence: int, result: dict[str, Any], **_: int) -> bool:
        self.words.append((job_id, "finish", fence))
        return True

    def cancelled(self, job_id: str, fence: int, **_: int) -> bool:
        self.words.append((job_id, "cancelled", fence))
        return True

    def waits_again(self, job_id: str, fence: int, failed_ms: int) -> bool:
        self.words.append((job_id, "waits again", fence))
        return True

    def fail(self, job_id: str, fence: int, error: dict[str, Any]) -> bool:
        self.words.append((job_id, "fail", fence))
        return True


class NoWay:
    """The road of jobs that have no other model."""

    def find(self, job_id: str, fence: int) -> None:
        return None


class Road:
    """The road that a world has by now: tests lay another."""

    def __init__(self, world: World) -> None:
        self._world = world

    def find(self, job_id: str, fence: int) -> Any:
        return self._world.detours.find(job_id, fence)

    def go(self, way: Any) -> bool:
        return bool(self._world.detours.go(way))


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
        breakers = ReplicaBreakers(self.scripts, Replicas(client, settings.group), self.table, "w", [MODEL])
        self.detours: Any = NoWay()
        road = cast(Any, Road(self))
        serving = Serving(self.runner, self.table, self.scripts, outbox, breakers, road)
        register_tasks(self.app, self.runner, self.table, serving)
        self.app.steps["worker"].add(FastLaneStep)
        self.app.task(name="host.task", shared=False)(self.engine.run)
        self.outside: Celery = make_celery(settings)
        self.publisher = Publisher(self.outside, settings, self.scripts)
        self.lanes: list[FastLane] = []

        def make(worker: Any) -> FastLane:
            attendant = Attendant(worker, self.runner, self.table, serving)
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
    def working(self, *, lane: bool = True) -> Iterator[None]:
        """The worker; ends, with what it runs, when the block does. Without a lane Celery's consumer serves all."""
        with start_worker(
            self.app,
            pool="threads",
            concurrency=sum(self.table.capacity.values()),
            queues=[LANE],
            perform_ping_check=False,
            loglevel="ERROR",
            shutdown_timeout=20,
            fast_lane=self._make if lane else None,
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

"""How does a test run the whole road: services, workers and watchdog as processes, on a broker it may stop?

Fixtures: `own_broker` (a server of this test's own), `road` (a home with services on it; what it starts it ends).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from qosqueue.broker import embedded
from qosqueue.broker.address import connect
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType, Tier
from qosqueue.service.online import OnlineCall
from qosqueue.service.requests import JobRequest
from qosqueue.settings import PREFIX, Settings
from qosqueue.store.records import Job, Tenant
from qosqueue.wiring import Services, build
from tests.support.eventually import eventually
from tests.support.tables import make_tables

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
UP_WITHIN_S = 40.0


class OwnBroker:
    """A Valkey that a test may stop, freeze and start again on the same data."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, redis_url=None)
        self.process = embedded.start(self.settings)

    def client(self) -> redis.Redis:
        """A client of it, answering in bytes."""
        return connect(self.settings)

    def stop(self) -> None:
        """End the server; its data stays."""
        embedded.stop(self.process)

    def start(self) -> None:
        """Start it again."""
        self.process = embedded.start(self.settings)


@pytest.fixture
def own_broker() -> Iterator[OwnBroker]:
    """A server of this test's own, in a folder that goes away with it."""
    home = Path(tempfile.mkdtemp(prefix="qq-"))
    broker = OwnBroker(home)
    try:
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(home)


class Road:
    """A home with a record, a model and a tenant; starts workers and the watchdog as real processes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        make_tables(settings.sql_url())
        self.services: Services = build(settings)
        self.tenant: Tenant = self.services.accounts.create_tenant("acme", Tier.VIP, actor="test")
        self._processes: list[subprocess.Popen[bytes]] = []

    def model(self, name: str = "sim", engine: str = "simulated", **changes: Any) -> None:
        """Add a model; by default a simulated one of a step a millisecond."""
        options = {"step_ms": 1, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 8}
        given: dict[str, Any] = {"memory_bytes": 1_000, "context_tokens": 4_096, "slots": 2, "options": options}
        self.services.catalog.add_model(name, engine, actor="test", **(given | changes))

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start a worker and return once its replica is ready."""
        process = self.start_worker(name)
        eventually(
            lambda: process.poll() is not None or any(r.replica.pid == process.pid for r in self._replicas()),
            within_s=UP_WITHIN_S,
        )
        assert process.poll() is None, self.log()
        return process

    def start_worker(self, name: str = "", *, code: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker and return at once; `code` replaces its main module."""
        return self._start(["-c", code] if code else ["-m", "qosqueue_workers", "--name", name])

    def start_script(self, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program with this home's settings, whose input and output are the test's."""
        return self._start(["-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def watchdog(self) -> subprocess.Popen[bytes]:
        """Start beat and the worker of the system lane; returns once it has swept."""
        process = self._start(["-m", "qosqueue_workers.beat"])
        eventually(lambda: process.poll() is not None or self.services.watchdog.runs(1), within_s=UP_WITHIN_S)
        assert process.poll() is None, self.log()
        return process

    def bulk(self) -> subprocess.Popen[bytes]:
        """Start the process that feeds batches and sends webhooks; returns at once. It acts when a watchdog beats."""
        return self._start(["-m", "qosqueue_workers.bulk"])

    def request(self, task_type: TaskType = TaskType.ASYNC, **changes: Any) -> JobRequest:
        """A chat request; `tokens` and `stream` go into its body."""
        tokens, model = changes.pop("tokens", 8), changes.pop("model", "sim")
        body = CHAT | {"model": model, "max_tokens": tokens}
        return JobRequest(changes.pop("endpoint", "/v1/chat/completions"), model, body, task_type, 4, tokens, **changes)

    def submit(self, **changes: Any) -> Job:
        """Submit a job that must be accepted."""
        job = self.services.jobs.submit(self.tenant, self.request(**changes))
        assert not isinstance(job, Refusal), job
        return job

    def call(self, **changes: Any) -> OnlineCall:
        """Start a synchronous, streamed request that must be accepted."""
        call = self.services.online.start(self.tenant, self.request(TaskType.ONLINE, stream=True, **changes))
        assert not isinstance(call, Refusal), call
        return call

    def job(self, job: Job | OnlineCall) -> Job:
        """The job as it stands in the record."""
        return self.services.jobs.find(job.id)

    def in_flight(self) -> int:
        """Attempts that hold a lease now."""
        return sum(lane.in_flight for lane in self.services.queues.lanes() if lane.lane != "system")

    def depth(self) -> int:
        """Requests that wait."""
        return sum(lane.depth for lane in self.services.queues.lanes() if lane.lane != "system")

    def log(self) -> str:
        """The end of what the processes have said."""
        return (self.settings.home / "processes.log").read_text(errors="replace")[-6000:]

    def close(self) -> None:
        """End every process that still runs, and the services."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self.services.close()

    def _replicas(self) -> list[Any]:
        return self.services.queues.replicas()

    def _start(self, what: list[str], **pipes: int) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        for field in self.settings.model_fields_set:
            value = getattr(self.settings, field)
            if value is not None:
                environment[f"{PREFIX}{field.upper()}"] = str(value)
        with (self.settings.home / "processes.log").open("ab") as log:
            streams: dict[str, Any] = {"stdout": log, "stderr": log} | pipes
            process = subprocess.Popen([sys.executable, *what], env=environment, **streams)
        self._processes.append(process)
        return process


@pytest.fixture
def road(make_settings: Any) -> Iterator[Road]:
    """A road with leases of 2 s and sweeps of 200 ms, on the session's (emptied) server."""
    made = Road(make_settings(lease_ms=2_000, sweep_ms=200))
    try:
        yield made
    finally:
        made.close()

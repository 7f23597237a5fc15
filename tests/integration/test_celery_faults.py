"""What becomes of a stranger's tasks when connections, scripts, workers or the broker go away under them?"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import WorkerLostError

from qosqueue.broker.scripts import Scripts
from tests.support import snapshots
from tests.support.celery_processes import TcpBroker, compat_worker, tcp_broker
from tests.support.compat_tasks import GROUP, LEASE_MS, make_app
from tests.support.eventually import eventually

# Celery's own result backend calls what redis-py 8 wants replaced.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class Project:
    """The client's side of a project, and what its tasks wrote down."""

    def __init__(self, broker: TcpBroker, folder: Path) -> None:
        self.broker = broker
        self.app: Celery = make_app(broker.url)
        self._folder = folder

    def hold(self, name: str, **qos: Any) -> Any:
        """Send a task that runs until `end(name)`."""
        return self.app.send_task("hold", (str(self._folder), name), task_id=name, headers={"qos": qos})

    def end(self, *names: str) -> None:
        """Let those tasks end."""
        for name in names:
            (self._folder / f"{name}.end").touch()

    def began(self) -> list[str]:
        """Each execution of a `hold`, in order."""
        file = self._folder / "began"
        return file.read_text().split() if file.exists() else []

    def wait_for(self, *names: str) -> None:
        """Return once these have begun."""
        eventually(lambda: set(names) <= set(self.began()), within_s=15)

    def leases(self) -> dict[str, int]:
        """The leased messages and the ends of their leases."""
        found: Any = self.broker.client.zrange(f"{{{GROUP}}}:leases", 0, -1, withscores=True)
        return {tag.decode(): int(until) for tag, until in found}

    def waiting(self) -> set[str]:
        """Task ids of what waits."""
        state = snapshots.of_redis(self.broker.client, GROUP)
        return {value["task"] for key, value in state.items() if key.startswith("msg:") and value["state"] == "queued"}

    def empty(self) -> bool:
        """Whether the order has no message left."""
        return not list(self.broker.client.scan_iter(match=f"{{{GROUP}}}:msg:*", count=1000))

    def kill_connections(self) -> None:
        """Every connection of the server is cut, blocking reads and subscriptions too."""
        for kind in ("normal", "pubsub"):
            self.broker.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


@pytest.fixture(scope="module")
def broker() -> Iterator[TcpBroker]:
    with tcp_broker() as started:
        yield started


@pytest.fixture
def project(broker: TcpBroker, tmp_path: Path) -> Iterator[Project]:
    broker.client.flushall()
    made = Project(broker, tmp_path)
    yield made
    made.app.close()


@pytest.mark.chaos
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_cut_connections_make_no_second_execution(project: Project, pool: str) -> None:
    """The task that runs outlasts its lease by far; the one that waits runs once, in its turn."""
    with compat_worker(project.broker.url, pool=pool, slots=1):
        running, later = project.hold("running"), project.hold("later")
        project.wait_for("running")
        (until,) = project.leases().values()
        project.kill_connections()
        eventually(lambda: max(project.leases().values(), default=0) > until + 2 * LEASE_MS, within_s=10)
        project.end("running", "later")
        # Not `get`: what stock Celery's subscription to results misses while its own connection is cut is never told.
        eventually(lambda: running.ready() and later.ready(), within_s=20)
        assert (running.result, later.result) == ("running", "later")
        eventually(project.empty, within_s=5)
    assert project.began() == ["running", "later"]


def test_a_worker_that_is_told_to_stop_finishes_what_runs_and_gives_back_the_rest(project: Project) -> None:
    with compat_worker(project.broker.url, slots=1) as worker:
        running = project.hold("running")
        project.wait_for("running")
        for name in ("second", "third"):
            project.hold(name)
        project.app.send_task("at", countdown=60, task_id="far off")
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: worker.said("Warm shutdown"), within_s=5)
        project.end("running")
        assert worker.process.wait(20) == 0
    assert running.get(timeout=5) == "running"
    assert project.began() == ["running"]
    assert project.leases() == {}
    assert project.waiting() == {"second", "third", "far off"}


@pytest.mark.chaos
def test_whoever_waits_for_a_task_that_kills_its_workers_is_told(project: Project, broker: TcpBroker) -> None:
    sent = project.hold("fatal", max_attempts=1)
    with compat_worker(broker.url) as first:
        project.wait_for("fatal")
        first.process.kill()
        first.process.wait()
    with compat_worker(broker.url), pytest.raises(WorkerLostError):
        sent.get(timeout=20)
    # It is kept all the same, and its second life has a result of its own.
    project.end("fatal")
    with compat_worker(broker.url):
        assert Scripts(broker.client, GROUP).replay(task="fatal") == 1
        eventually(lambda: project.app.AsyncResult("fatal").state == "SUCCESS", within_s=20)
    eventually(project.empty, within_s=10)


@pytest.mark.chaos
def test_a_killed_worker_s_task_runs_elsewhere_without_a_watchdog(project: Project) -> None:
    with compat_worker(project.broker.url, pool="threads", slots=1) as first:
        result = project.hold("precious")
        project.wait_for("precious")
        first.process.kill()
        first.process.wait()
    with compat_worker(project.broker.url, pool="threads", slots=1):
        eventually(lambda: project.began() == ["precious"] * 2, within_s=10)
        project.end("precious")
        assert result.get(timeout=10) == "precious"
        eventually(project.empty, within_s=5)


def test_a_storm_of_flushes_is_not_noticed(project: Project) -> None:
    def flush() -> None:
        project.broker.client.script_flush()
        project.broker.client.function_flush()

    with compat_worker(project.broker.url):
        results = []
        for number in range(60):
            flush()
            results.append(project.app.send_task("add", (number, 1)))
        while not all(result.ready() for result in results):
            flush()
        assert [result.get(timeout=10) for result in results] == [number + 1 for number in range(60)]
        eventually(project.empty, within_s=5)


@pytest.mark.chaos
def test_a_broker_that_is_started_again_has_lost_nothing_and_runs_nothing_twice(project: Project) -> None:
    names = ["running", *(f"waits{number}" for number in range(5))]
    with compat_worker(project.broker.url, slots=1):
        for name in names:
            project.hold(name)
        project.wait_for("running")
        project.broker.stop()
        project.end(*names)
        project.broker.start()
        eventually(project.empty, within_s=20)
    assert sorted(project.began()) == sorted(names)

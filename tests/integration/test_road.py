"""Does a request reach its answer over the whole road, with real processes, whatever dies on the way?"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qosqueue.policy.lifecycle import TERMINAL, JobStatus
from qosqueue.policy.terms import TaskType
from qosqueue.service.online import Chunk, Done, OnlineCall, Started
from qosqueue.settings import Settings
from qosqueue.store.records import Job
from tests.support import snapshots
from tests.support.broker import MakeSettings
from tests.support.eventually import eventually
from tests.support.road import OwnBroker, Road
from tests.support.tiny_gguf import write_tiny_gguf

LONG = {"step_ms": 1, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 4_000}
SWEEP_S = 2.0
DEADLY = """
import os, sys
from qosqueue_workers.engines.simulated import SimulatedEngine
SimulatedEngine._generate = lambda *_: os._exit(9)
from qosqueue_workers.__main__ import main
sys.exit(main(["--name", "deadly"]))
"""

pytestmark = pytest.mark.timeout(120)


def text_of(call: OnlineCall) -> tuple[list[type], str, Done]:
    """The kinds of events, the text of the chunks, and the end of a call."""
    events = list(call.events())
    call.close()
    chunks = [event for event in events if isinstance(event, Chunk)]
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.choices)
    assert isinstance(events[-1], Done), events[-1]
    return [type(event) for event in events], said, events[-1]


def ended(road: Road, job: Job | OnlineCall, within_s: float = 20) -> Job:
    """The job, once it is final."""
    eventually(lambda: road.job(job).status in TERMINAL, within_s=within_s)
    return road.job(job)


def left(road: Road) -> set[str]:
    """What the group holds of requests: nothing, once all have ended."""
    prefix = f"{{{road.settings.group}}}:"
    names = {key.decode().removeprefix(prefix) for key in road.services.redis.keys(f"{prefix}*")}
    kept = (*snapshots.KEPT, "pool:", "replica", "beat", "bell:of", "reply:", "cancel")
    return {name for name in names if not name.startswith(kept) and "system" not in name}


def recorded(road: Road, call: OnlineCall) -> Job:
    """The row of a synchronous request, which is written just after its end."""
    eventually(lambda: any(job.id == call.id for job in road.services.jobs.list(None, 50)), within_s=5)
    return road.job(call)


def test_stream_job_and_cancellation_on_one_worker(road: Road) -> None:
    road.model(options=LONG, slots=2)
    queued, kept = road.submit(), road.submit()
    assert road.services.jobs.cancel(road.tenant.id, queued.id).status is JobStatus.CANCELLED
    road.worker("w1")

    done = ended(road, kept)
    assert (done.status, done.worker, done.attempts, done.completion_tokens) == (JobStatus.SUCCEEDED, "w1", 1, 8)
    assert done.result is not None
    assert road.job(queued).worker is None

    call = road.call(tokens=20)
    kinds, said, end = text_of(call)
    assert kinds.index(Started) < kinds.index(Chunk)
    assert said == end.result["choices"][0]["message"]["content"]
    assert (end.completion_tokens, end.finish_reason) == (20, "length")
    row = recorded(road, call)
    assert (row.status, row.task_type, row.attempts) == (JobStatus.SUCCEEDED, TaskType.ONLINE, 1)

    leaving = road.call(tokens=4_000)
    next(event for event in leaving.events() if isinstance(event, Chunk))
    assert road.in_flight() == 1
    leaving.close()
    eventually(lambda: road.in_flight() == 0, within_s=2)
    assert recorded(road, leaving).status is JobStatus.CANCELLED

    running = road.submit(tokens=4_000)
    eventually(lambda: road.job(running).status is JobStatus.RUNNING, within_s=5)
    road.services.jobs.cancel(road.tenant.id, running.id)
    eventually(lambda: road.in_flight() == 0, within_s=2)
    assert ended(road, running, 2).status is JobStatus.CANCELLED
    eventually(lambda: left(road) == set(), within_s=5)


def test_a_cancellation_in_the_instant_of_the_pick_is_not_missed(road: Road) -> None:
    road.model(options=LONG, slots=2)
    road.worker("w1")
    for _ in range(10):
        call = road.call(tokens=4_000)
        next(event for event in call.events() if isinstance(event, Started))
        call.close()
    eventually(lambda: road.in_flight() == 0, within_s=2)


def test_a_worker_killed_mid_job_is_replaced_and_the_result_stored_once(road: Road) -> None:
    road.model(options=LONG, slots=2)
    workers = {name: road.worker(name) for name in ("w1", "w2")}
    road.watchdog()
    job = road.submit(tokens=800)
    eventually(lambda: road.job(job).status is JobStatus.RUNNING, within_s=5)
    first = road.job(job).worker
    assert first is not None
    workers[first].kill()
    killed = time.monotonic()
    eventually(lambda: road.job(job).fence == 2, within_s=road.settings.lease_ms / 1000 + SWEEP_S)
    assert time.monotonic() - killed > 0.5, "it was requeued before its lease ended"
    done = ended(road, job)
    assert done.status is JobStatus.SUCCEEDED
    assert (done.attempts, done.worker) == (2, ({"w1", "w2"} - {first}).pop())
    assert done.result is not None
    assert done.completion_tokens == 800
    eventually(lambda: left(road) == set(), within_s=5)
    requeued = [run.outcome.get("requeued", []) for run in road.services.watchdog.runs(500) if run.task == "reap"]
    assert [tasks for tasks in requeued if tasks] == [[job.id]]


def test_a_worker_that_froze_loses_its_lease_and_not_the_job(road: Road) -> None:
    """The only worker stops for longer than its lease, then goes on: it runs the job again itself."""
    road.model(options=LONG, slots=1)
    worker = road.worker("w1")
    road.watchdog()
    job = road.submit(tokens=1_500)
    eventually(lambda: road.job(job).status is JobStatus.RUNNING, within_s=5)
    worker.send_signal(signal.SIGSTOP)
    eventually(lambda: road.job(job).status is JobStatus.QUEUED, within_s=8)
    worker.send_signal(signal.SIGCONT)
    done = ended(road, job)
    assert (done.status, done.attempts, done.completion_tokens) == (JobStatus.SUCCEEDED, 2, 1_500), road.log()
    eventually(lambda: left(road) == set(), within_s=10)


@pytest.fixture
def hasty_road(make_settings: MakeSettings) -> Iterator[Road]:
    made = Road(make_settings(lease_ms=600, sweep_ms=200))
    yield made
    made.close()


@pytest.mark.chaos
def test_a_job_that_kills_every_worker_ends_as_failed_and_is_kept(hasty_road: Road) -> None:
    road = hasty_road
    road.model()
    road.watchdog()
    job = road.submit()
    for attempt in (1, 2, 3):
        process = road.start_worker(code=DEADLY)
        assert process.wait(40) == 9
        assert road.job(job).fence == attempt
    failed = ended(road, job, 5)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "attempts_exhausted"
    state = snapshots.of_redis(road.services.redis, road.settings.group)
    (tag,) = state["dead"]
    assert (state[f"msg:{tag}"]["state"], state[f"msg:{tag}"]["task"]) == ("dead", job.id)
    road.worker("sound")
    other = road.submit()
    assert ended(road, other).status is JobStatus.SUCCEEDED


def test_a_job_that_waits_past_its_time_expires_with_an_answer(road: Road) -> None:
    road.model()
    job = road.submit(ttl_ms=300)
    road.watchdog()
    expired = ended(road, job, 5)
    assert expired.status is JobStatus.EXPIRED
    assert expired.error is not None
    assert (expired.error["status"], expired.error["code"]) == (504, "deadline_exceeded")
    # With no worker to hear it, the lane's bell stays rung. The sweep's own message goes after the record is told.
    eventually(lambda: left(road) <= {"bell:9:vip.light:sim"}, within_s=5)


def test_sigterm_finishes_what_runs_and_leaves_the_rest_queued(road: Road) -> None:
    road.model(options=LONG, slots=1)
    worker = road.worker("w1")
    running = road.submit(tokens=1_500)
    eventually(lambda: road.job(running).status is JobStatus.RUNNING, within_s=5)
    waiting = [road.submit(tokens=1_500) for _ in range(2)]
    worker.terminate()
    assert worker.wait(20) == 0, road.log()
    assert road.job(running).status is JobStatus.SUCCEEDED
    assert [road.job(job).status for job in waiting] == [JobStatus.QUEUED] * 2
    assert (road.depth(), road.in_flight()) == (2, 0)
    assert road.services.queues.replicas() == []


def test_sigterm_ends_streams_whole(road: Road) -> None:
    road.model(options=LONG, slots=2)
    worker = road.worker("w1")
    calls = [road.call(tokens=1_500) for _ in range(2)]
    for call in calls:
        next(event for event in call.events() if isinstance(event, Chunk))
    worker.terminate()
    for call in calls:
        *_, last = call.events()
        assert isinstance(last, Done), last
        assert (last.completion_tokens, last.finish_reason) == (1_500, "length")
        call.close()
    assert worker.wait(20) == 0, road.log()
    assert (road.depth(), road.in_flight()) == (0, 0)


def test_a_result_waits_for_a_locked_database(road: Road) -> None:
    """Locked for longer than SQLite's patience and three leases: the lease is renewed, the result is stored once."""
    road.model(options=LONG)
    road.worker("w1")
    job = road.submit(tokens=300)
    eventually(lambda: road.job(job).status is JobStatus.RUNNING, within_s=5)
    lock = sqlite3.connect(road.settings.home / "qosqueue.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    until = time.monotonic() + 6.5
    eventually(lambda: time.monotonic() > until, within_s=10)
    assert road.in_flight() == 1
    assert road.job(job).status is JobStatus.RUNNING
    lock.execute("ROLLBACK")
    lock.close()
    done = ended(road, job)
    assert (done.status, done.attempts, done.completion_tokens) == (JobStatus.SUCCEEDED, 1, 300)
    eventually(lambda: left(road) == set(), within_s=5)


def test_a_real_model_answers(road: Road, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    options: dict[str, Any] = {"path": str(path), "threads": 1}
    road.model("tiny", "llama.cpp", context_tokens=512, slots=2, options=options)
    worker = road.worker("w1")
    _, said, end = text_of(road.call(model="tiny", tokens=12))
    assert end.completion_tokens == 12
    assert said == end.result["choices"][0]["message"]["content"] != ""
    job = ended(road, road.submit(model="tiny", tokens=5))
    assert (job.status, job.completion_tokens) == (JobStatus.SUCCEEDED, 5)
    leaving = road.call(model="tiny", tokens=400)
    next(event for event in leaving.events() if isinstance(event, Chunk))
    leaving.close()
    eventually(lambda: road.in_flight() == 0, within_s=2)
    worker.terminate()
    assert worker.wait(20) == 0, road.log()


@pytest.mark.chaos
def test_the_watchdog_and_a_worker_outlive_a_broker_that_restarts(own_broker: OwnBroker) -> None:
    settings = Settings(home=own_broker.settings.home, redis_url=None, lease_ms=2_000, sweep_ms=200)
    road = Road(settings)
    try:
        road.model()
        road.worker("w1")
        road.watchdog()
        own_broker.stop()
        own_broker.start()
        before = len(road.services.watchdog.runs(5_000))
        job = road.submit()
        assert ended(road, job, 15).status is JobStatus.SUCCEEDED
        eventually(lambda: len(road.services.watchdog.runs(5_000)) >= before + 4, within_s=15)
    finally:
        road.close()


def test_a_worker_without_a_broker_says_so_in_one_line(make_settings: MakeSettings, tmp_path: Path) -> None:
    road = Road(make_settings(redis_url=f"unix://{tmp_path}/none.sock"))
    try:
        road.model()
        process = road.start_worker("w1")
        assert process.wait(30) == 1
        lines = [line for line in road.log().splitlines() if "qosqueue:" in line]
        assert len(lines) == 1
        assert "Traceback" not in road.log()
    finally:
        road.close()

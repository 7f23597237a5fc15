"""Is every open job in the queue again, once, whatever died or was emptied in between?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.lifecycle import TERMINAL, JobEvent, JobStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.terms import TaskType, Tier
from qosqueue.service.reconciler import Reconciler
from qosqueue.service.spent_today import SpentToday
from qosqueue.settings import PREFIX
from qosqueue.store.decisions import DecisionKind, Decisions
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job
from qosqueue.store.usage import UsageRecord
from tests.support.eventually import eventually
from tests.support.road import Road

PLACES = [("vip.light", "sim")]
KILLED_BETWEEN = """
import os, signal
from qosqueue.broker.publish import Publisher
from qosqueue.policy.terms import TaskType
from qosqueue.service.requests import JobRequest
from qosqueue.settings import load_settings
from qosqueue.wiring import build
Publisher.publish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
services = build(load_settings())
(tenant,) = services.accounts.list_tenants()
body = {"model": "sim", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
services.jobs.submit(tenant, JobRequest("/v1/chat/completions", "sim", body, TaskType.ASYNC, 4, 8))
"""


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def reconciler(road: Road, record: type[JobRecord] = JobRecord, **how: Any) -> Reconciler:
    services = road.services
    given = {"lease_ms": road.settings.lease_ms, "grace_ms": -1} | how
    return Reconciler(
        services.scripts,
        record(services.store),
        services.jobs._publisher,
        services.admission,
        SpentToday(services.scripts, services.usage),
        **given,
    )


def pick(road: Road) -> Delivery:
    found = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(found, Delivery)
    return found


def kinds(road: Road, job: Job) -> list[str]:
    return [decision.kind.value for decision in Decisions(road.services.store).of(job.id)]


def killed_between_commit_and_enqueue(road: Road) -> Job:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {"QOSQUEUE_HOME": str(road.settings.home), "QOSQUEUE_REDIS_URL": str(road.settings.redis_url)}
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (job,) = road.services.jobs.list(None, 9)
    assert (job.status, road.depth()) == (JobStatus.ACCEPTED, 0)
    return job


def test_a_job_whose_process_was_killed_between_commit_and_enqueue_is_queued(modelled: Road) -> None:
    job = killed_between_commit_and_enqueue(modelled)
    assert reconciler(modelled, grace_ms=60_000).run().fell_between == [], "it may be on its way"
    assert reconciler(modelled).run().fell_between == [job.id]
    queued = modelled.job(job)
    assert (queued.status, queued.queued_ms is not None, modelled.depth()) == (JobStatus.QUEUED, True, 1)
    assert kinds(modelled, job) == ["admitted", "queued_again"]
    assert reconciler(modelled).run().fell_between == []
    delivery = pick(modelled)
    assert delivery.task == job.id
    assert modelled.services.attempts.begin(job.id, delivery.fence, "w") == job.body


@pytest.mark.timeout(120)
def test_the_watchdog_queues_it_and_a_worker_answers(modelled: Road) -> None:
    job = killed_between_commit_and_enqueue(modelled)
    modelled.worker("w1")
    modelled.watchdog()
    eventually(lambda: modelled.job(job).status in TERMINAL, within_s=30)
    done = modelled.job(job)
    assert (done.status, done.attempts) == (JobStatus.SUCCEEDED, 1)


def test_a_web_process_that_is_slow_to_enqueue_queues_nothing_twice(modelled: Road) -> None:
    services = modelled.services
    publisher, quick = services.jobs._publisher, reconciler(modelled)

    class Slow:
        def publish(self, *what: Any, **how: Any) -> bool:
            assert len(quick.run().fell_between) == 1
            return publisher.publish(*what, **how)

    services.jobs._publisher = Slow()  # type: ignore[assignment]
    job = modelled.submit()
    assert (job.status, modelled.depth()) == (JobStatus.QUEUED, 1)


def test_an_emptied_broker_gets_all_that_waits_in_its_old_order(modelled: Road) -> None:
    other = modelled.services.accounts.create_tenant("other", Tier.BASIC, actor="test", organisation="both")
    jobs = [modelled.submit(), modelled.submit(task_type=TaskType.BATCH), modelled.submit()]
    foreign = modelled.services.jobs.submit(other, modelled.request())
    assert isinstance(foreign, Job)
    again = reconciler(modelled)
    assert again.run().forgotten == []
    before = _messages(modelled)
    modelled.services.redis.flushall()
    assert again.run().forgotten == [job.id for job in [*jobs, foreign]]
    assert modelled.depth() == 4
    after = _messages(modelled)
    assert before == after
    assert again.run().forgotten == []
    assert kinds(modelled, jobs[0]) == ["admitted", "queued_again"]
    assert [pick(modelled).task for _ in range(2)] == [jobs[0].id, jobs[2].id]


def _messages(road: Road) -> dict[bytes, list[Any]]:
    """What was told of each request to the order."""
    client, told = road.services.redis, {}
    fields = [
        "lane",
        "model",
        "tenant",
        "organisation",
        "priority",
        "batch",
        "budget_ms",
        "predicted_ms",
        "max_attempts",
    ]
    for key in client.scan_iter(f"{road.services.scripts.key}:msg:*"):
        task, *values = client.hmget(key, ["task", *fields])
        told[task] = values
    return told


def test_a_look_that_is_interrupted_goes_on_and_one_that_lost_its_mark_begins_again(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qosqueue.service.reconciler.PAGE", 2)
    monkeypatch.setattr("qosqueue.service.reconciler.RUN_S", 0.0)
    jobs = [modelled.submit() for _ in range(5)]
    client, mark = modelled.services.redis, f"{modelled.services.scripts.key}:looked-until"
    client.flushall()
    assert reconciler(modelled).run().forgotten == [], "no time"
    monkeypatch.setattr("qosqueue.service.reconciler.RUN_S", 10.0)
    client.set(mark, f"{jobs[1].created_ms}:{jobs[1].id}")
    assert reconciler(modelled).run().forgotten == [
        job.id for job in sorted(jobs, key=_age) if _age(job) > _age(jobs[1])
    ]
    assert client.get(mark) == b"done"
    client.flushall()
    assert len(reconciler(modelled).run().forgotten) == 5


def _age(job: Job) -> tuple[int, str]:
    return job.created_ms, job.id


def test_what_is_missing_although_the_broker_is_not_empty_is_found_page_by_page(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qosqueue.service.reconciler.PAGE", 2)
    jobs = sorted((modelled.submit() for _ in range(5)), key=_age)
    again = reconciler(modelled)
    again.run()
    modelled.services.scripts.withdraw(task=jobs[3].id)
    found = [again.run().forgotten for _ in range(3)]
    assert [job for page in found for job in page] == [jobs[3].id]


def test_a_running_job_is_not_doubled_and_its_late_result_refused(modelled: Road) -> None:
    job = modelled.submit()
    first = pick(modelled)
    attempts = modelled.services.attempts
    assert attempts.begin(job.id, first.fence, "w1") is not None
    modelled.services.redis.flushall()
    patient = reconciler(modelled, lease_ms=3_600_000)
    assert [patient.run().forgotten for _ in range(2)] == [[], []]
    assert modelled.job(job).status is JobStatus.RUNNING, "its worker may still be at it"
    impatient = reconciler(modelled, lease_ms=0)
    assert impatient.run().forgotten == [job.id]
    assert modelled.job(job).status is JobStatus.QUEUED
    assert kinds(modelled, job) == ["admitted", "dispatched", "lease_lost", "queued_again"]
    counts = {"prompt_tokens": 1, "completion_tokens": 1, "first_token_ms": 1, "gpu_ms": 5}
    assert not attempts.finish(job.id, first.fence, {"late": True}, **counts)
    second = pick(modelled)
    assert second.fence == first.fence + 1
    assert attempts.begin(job.id, second.fence, "w2") is not None
    assert attempts.finish(job.id, second.fence, {"late": False}, **counts)
    assert modelled.job(job).result == {"late": False}
    assert [used.requests for used in UsageRecord(modelled.services.store).list()] == [1]


def test_what_is_queued_but_not_noted_so_is_noted_and_hides_nothing(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL went away just after the publish."""
    monkeypatch.setattr("qosqueue.service.reconciler.PAGE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(JobRecord, "move", lambda *_, **__: (_ for _ in ()).throw(StoreUnavailable("away")))
        queued, lost = sorted((modelled.submit() for _ in range(2)), key=_age)
    modelled.services.scripts.withdraw(task=lost.id)
    assert {modelled.job(job).status for job in (queued, lost)} == {JobStatus.ACCEPTED}
    again = reconciler(modelled)
    assert [again.run().fell_between for _ in range(2)] == [[], [lost.id]]
    assert {modelled.job(job).status for job in (queued, lost)} == {JobStatus.QUEUED}
    assert (kinds(modelled, queued), kinds(modelled, lost)) == (["admitted"], ["admitted", "queued_again"])


def test_what_ended_while_it_was_looked_for_is_left_alone(modelled: Road) -> None:
    job = modelled.submit()
    services = modelled.services

    class Ending(JobRecord):
        def open_jobs(self, job_ids: Any) -> Any:
            assert self.move(job.id, JobEvent.CANCEL, finished_ms=1)
            return super().open_jobs(job_ids)

    services.redis.flushall()
    look = reconciler(modelled, Ending, lease_ms=0)
    assert look.run().forgotten == []
    assert modelled.depth() == 0


def test_two_watchdogs_queue_a_job_once(modelled: Road) -> None:
    job = modelled.submit()
    services = modelled.services
    other = reconciler(modelled)
    found: list[list[str]] = []

    class Beside(JobRecord):
        def open_jobs(self, job_ids: Any) -> Any:
            rows = super().open_jobs(job_ids)
            found.append(other.run().forgotten)
            return rows

    services.redis.flushall()
    look = reconciler(modelled, Beside, lease_ms=0)
    found.append(look.run().forgotten)
    assert sorted(found) == [[], [job.id]]
    assert modelled.depth() == 1


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_an_emptied_broker_with_work_queued_and_running_loses_and_doubles_nothing(road: Road) -> None:
    slow = {"step_ms": 4, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 4_000}
    road.model(options=slow, slots=1)
    road.worker("w1")
    road.watchdog()
    jobs = [road.submit(tokens=500) for _ in range(4)]
    eventually(lambda: road.job(jobs[0]).status is JobStatus.RUNNING, within_s=5)
    road.services.redis.flushall()
    eventually(lambda: all(road.job(job).status in TERMINAL for job in jobs), within_s=60)
    done = [road.job(job) for job in jobs]
    assert Counter(job.status for job in done) == {JobStatus.SUCCEEDED: 4}, road.log()
    assert all(job.completion_tokens == 500 for job in done)
    assert all(job.attempts <= 2 for job in done)
    (used,) = UsageRecord(road.services.store).list()
    assert (used.requests, used.completion_tokens) == (4, 2_000)
    assert sum(job.gpu_ms or 0 for job in done) == used.gpu_ms
    again = [kind for job in jobs for kind in kinds(road, job) if kind == DecisionKind.QUEUED_AGAIN]
    assert len(again) >= 3
    eventually(lambda: road.in_flight() == 0, within_s=5)

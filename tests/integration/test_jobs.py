"""Is an accepted job never lost, and a refused one never run? The real record and broker; no worker."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, NotFound, StoreUnavailable
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import Tier
from qosqueue.service.audit import Audit
from qosqueue.service.finished import FinishedRequests
from qosqueue.service.jobs import Jobs
from qosqueue.service.requests import new_row
from qosqueue.store.job_record import JobRecord
from tests.support.eventually import eventually
from tests.support.road import Road

PLACES = [("vip.light", "sim")]


class Watching:
    """A publisher that looks at the record at the moment of publishing, and may then fail."""

    def __init__(self, road: Road, fault: Exception | None = None) -> None:
        self._road, self._fault = road, fault
        self.seen: list[JobStatus] = []

    def publish(self, request_id: str, *_: Any, **__: Any) -> None:
        self.seen.append(self._road.services.jobs.find(request_id).status)
        if self._fault is not None:
            raise self._fault


def jobs_with(road: Road, publisher: Any) -> Jobs:
    services = road.services
    return Jobs(services.admission, JobRecord(services.store), publisher, services.scripts, services.store)


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def test_the_row_is_committed_before_the_message_is_queued(modelled: Road) -> None:
    publisher = Watching(modelled)
    job = jobs_with(modelled, publisher).submit(modelled.tenant, modelled.request())
    assert not isinstance(job, Refusal)
    assert publisher.seen == [JobStatus.ACCEPTED]
    assert (job.status, job.queued_ms is not None) == (JobStatus.QUEUED, True)


class Quick(Watching):
    """A publisher whose message a worker begins before anything else is noted."""

    def publish(self, request_id: str, *_: Any, **__: Any) -> None:
        assert self._road.services.attempts.begin(request_id, 1, "w") is not None


def test_a_job_knows_when_it_was_queued_although_a_worker_was_quicker(modelled: Road) -> None:
    job = jobs_with(modelled, Quick(modelled)).submit(modelled.tenant, modelled.request())
    assert not isinstance(job, Refusal)
    assert job.status is JobStatus.RUNNING
    assert job.queued_ms is not None
    assert job.started_ms is not None
    assert job.created_ms <= job.queued_ms <= job.started_ms


def test_a_job_that_the_broker_did_not_take_is_rejected_and_never_runs(modelled: Road) -> None:
    """Even if only the answer was lost: the worker that gets the message finds the row final."""
    publisher = Watching(modelled, BrokerUnavailable("gone"))
    with pytest.raises(BrokerUnavailable):
        jobs_with(modelled, publisher).submit(modelled.tenant, modelled.request())
    (job,) = modelled.services.jobs.list(modelled.tenant.id, 9)
    assert job.status is JobStatus.REJECTED
    assert job.error is not None
    assert job.error["code"] == "broker_unavailable"
    assert modelled.services.attempts.begin(job.id, 1, "w") is None
    assert modelled.job(job).status is JobStatus.REJECTED


def test_a_full_broker_accepts_nothing(modelled: Road, redis_client: redis.Redis) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable):
            modelled.services.jobs.submit(modelled.tenant, modelled.request())
    finally:
        redis_client.config_set("maxmemory", 0)
    assert modelled.services.jobs.list(None, 9) == [], "the door has refused it"


def test_a_broker_that_fills_up_behind_the_door_leaves_a_rejected_row(
    modelled: Road, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = modelled.services.jobs._record.insert

    def filled(rows: Any, told: Any, webhooks: Any) -> None:
        insert(rows, told, webhooks)
        redis_client.config_set("maxmemory", 1)

    monkeypatch.setattr(modelled.services.jobs._record, "insert", filled)
    try:
        with pytest.raises(BrokerUnavailable):
            modelled.services.jobs.submit(modelled.tenant, modelled.request())
    finally:
        redis_client.config_set("maxmemory", 0)
    assert [job.status for job in modelled.services.jobs.list(None, 9)] == [JobStatus.REJECTED]
    assert modelled.depth() == 0


def test_a_job_is_found_by_its_tenant_alone(modelled: Road) -> None:
    job = modelled.submit()
    other = modelled.services.accounts.create_tenant("other", Tier.BASIC, actor="test")
    for forbidden in (modelled.services.jobs.get, modelled.services.jobs.cancel):
        with pytest.raises(NotFound, match=f"^No job '{job.id}'\\.$"):
            forbidden(other.id, job.id)
    with pytest.raises(NotFound):
        modelled.services.jobs.list(other.id, 5, before=job.id)
    assert modelled.job(job).status is JobStatus.QUEUED


def test_a_cancelled_job_leaves_the_queue_and_cannot_begin(modelled: Road) -> None:
    job = modelled.submit()
    assert modelled.services.jobs.cancel(modelled.tenant.id, job.id).status is JobStatus.CANCELLED
    assert modelled.depth() == 0
    assert modelled.services.attempts.begin(job.id, 1, "w") is None
    assert modelled.services.jobs.cancel(modelled.tenant.id, job.id).status is JobStatus.CANCELLED


def test_a_running_job_is_told_to_stop_and_is_final_when_its_worker_says_so(modelled: Road) -> None:
    job = modelled.submit()
    with modelled.services.redis.pubsub() as words:
        words.subscribe(f"{modelled.services.scripts.key}:cancel")
        assert words.get_message(timeout=5)
        delivery = pick(modelled.services.scripts)
        assert modelled.services.attempts.begin(job.id, delivery, "w") is not None
        assert modelled.services.jobs.cancel(modelled.tenant.id, job.id).status is JobStatus.RUNNING
        assert words.get_message(timeout=5)["data"] == job.id.encode()
    assert modelled.services.attempts.cancelled(job.id, delivery)
    assert modelled.job(job).status is JobStatus.CANCELLED


def test_an_operators_cancellation_leaves_an_audit_entry(modelled: Road) -> None:
    job = modelled.submit()
    jobs, trail = modelled.services.jobs, Audit(modelled.services.store)
    assert jobs.cancel_any(job.id, "cli:somebody").status is JobStatus.CANCELLED
    (entry,) = trail.list(subject=job.id)
    assert (entry.actor, entry.action) == ("cli:somebody", "job.cancel")
    assert (entry.before, entry.after) == ({"status": "queued"}, {"status": "cancelled"})
    jobs.cancel_any(job.id, "cli:somebody")
    assert len(trail.list(subject=job.id)) == 1, "a job that has ended is not changed"


def test_waiting_ends_with_the_job_or_with_the_time(modelled: Road) -> None:
    job = modelled.submit()
    services = modelled.services
    assert services.jobs.wait(modelled.tenant.id, job.id, 0.05).status is JobStatus.QUEUED
    services.jobs.cancel(modelled.tenant.id, job.id)
    assert services.jobs.wait(modelled.tenant.id, job.id, 60).status is JobStatus.CANCELLED


def test_only_the_newest_attempt_writes(modelled: Road) -> None:
    """Every write of a worker shows its fence: what comes from a lost lease changes nothing."""
    job = modelled.submit()
    attempts = modelled.services.attempts
    assert attempts.begin(job.id, 1, "w1") == job.body
    assert attempts.begin(job.id, 2, "w2") == job.body
    assert attempts.begin(job.id, 1, "w1") is None
    counts = {"prompt_tokens": 1, "completion_tokens": 1, "first_token_ms": 1}
    assert not attempts.finish(job.id, 1, {"late": True}, **counts)
    assert not attempts.fail(job.id, 1, {"late": True})
    assert not attempts.cancelled(job.id, 1)
    assert attempts.finish(job.id, 2, {"late": False}, **counts)
    assert not attempts.finish(job.id, 2, {"late": True}, **counts)
    done = modelled.job(job)
    assert (done.status, done.result, done.worker) == (JobStatus.SUCCEEDED, {"late": False}, "w2")


def test_a_sweep_that_is_told_late_does_not_undo_the_next_attempt(modelled: Road) -> None:
    """The order requeues, a worker begins again, and only then does the watchdog reach the record."""
    job = modelled.submit()
    attempts, record = modelled.services.attempts, JobRecord(modelled.services.store)
    attempts.begin(job.id, 1, "w1")
    attempts.begin(job.id, 2, "w2")
    assert not record.move(job.id, JobEvent.LEASE_LOST, fence=1)
    assert modelled.job(job).status is JobStatus.RUNNING
    assert record.move(job.id, JobEvent.LEASE_LOST, fence=2)
    assert modelled.job(job).status is JobStatus.QUEUED
    assert not attempts.finish(job.id, 2, {}, prompt_tokens=1, completion_tokens=1, first_token_ms=1)
    assert not attempts.fail(job.id, 2, {"late": True})
    assert not attempts.cancelled(job.id, 2)
    assert attempts.begin(job.id, 3, "w3") is not None


def test_one_row_that_sql_refuses_does_not_stop_the_record(modelled: Road) -> None:
    record = JobRecord(modelled.services.store)
    finished = FinishedRequests(record, lambda ended: False)
    profile = modelled.call().profile
    request = modelled.request()
    stranger = dataclasses.replace(modelled.tenant, id="ten_nobody")
    rows = [
        new_row(f"job_{number}", stranger if number == 2 else modelled.tenant, request, profile, status="succeeded")
        for number in range(5)
    ]
    for row in rows:
        finished.add(row)
    eventually(lambda: len(modelled.services.jobs.list(None, 50)) >= 4, within_s=5)
    finished.add(new_row("job_last", modelled.tenant, request, profile, status="succeeded"))
    eventually(lambda: record.find("job_last"), within_s=5)
    finished.close()
    assert record.find("job_2") is None


def test_rows_wait_in_memory_while_sql_is_away(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    record = JobRecord(modelled.services.store)
    away = [StoreUnavailable("away")]
    insert = record.insert

    def flaky(rows: list[dict[str, Any]], told: Any) -> None:
        if away:
            raise away.pop()
        insert(rows, told)

    monkeypatch.setattr(record, "insert", flaky)
    finished = FinishedRequests(record, lambda ended: False)
    profile = modelled.call().profile
    finished.add(new_row("job_kept", modelled.tenant, modelled.request(), profile, status="succeeded"))
    eventually(lambda: record.find("job_kept"), within_s=5)
    finished.close()


def pick(scripts: Scripts) -> int:
    """Lease the next message; its fence."""
    delivery = scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert delivery is not None
    return delivery.fence


def test_a_job_that_is_queued_is_accepted_although_sql_went_away_after_the_publish(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(JobRecord, "move", away)
    job = jobs_with(modelled, Watching(modelled)).submit(modelled.tenant, modelled.request())
    assert not isinstance(job, Refusal)
    assert modelled.services.jobs.find(job.id).status is JobStatus.ACCEPTED

"""Does a sweep tell the record all that happened in the order, and leave a record of itself?"""

from __future__ import annotations

from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.reference.message import Delivery, Reaped
from qosqueue.service import watchdog as module
from qosqueue.service.attempts import Attempts
from qosqueue.service.learning import Learning
from qosqueue.service.pools import Pools
from qosqueue.service.reconciler import Reconciler
from qosqueue.service.shares import Shares
from qosqueue.service.spent_today import SpentToday
from qosqueue.service.unrecorded import Unrecorded
from qosqueue.service.watchdog import Watchdog
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision, DecisionKind, Decisions
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job
from tests.support.eventually import eventually
from tests.support.road import Road

PLACES = [("vip.light", "sim")]


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def lose(road: Road) -> Delivery:
    """Pick the next message, begin, and lose its lease."""
    found = road.services.scripts.dispatch(lease_ms=1, holder="test", places=PLACES)
    assert isinstance(found, Delivery)
    assert road.services.attempts.begin(found.task, found.fence, "w") is not None
    eventually(lambda: road.services.redis.zscore(f"{road.services.scripts.key}:leases", found.tag), within_s=1)
    return found


def watchdog_with(road: Road, record: JobRecord, attempts: Attempts) -> Watchdog:
    services = road.services
    reconciler = Reconciler(
        services.scripts,
        record,
        services.jobs._publisher,
        services.admission,
        SpentToday(services.scripts, services.usage),
        lease_ms=road.settings.lease_ms,
    )
    return Watchdog(
        services.scripts,
        services.store,
        record,
        attempts,
        services.queues,
        Pools(services.scripts, services.replicas),
        Shares(services.scripts, services.store),
        Learning(services.store),
        reconciler,
        Unrecorded(services.scripts, record),
    )


def kept(road: Road, job: Job) -> list[Decision]:
    return Decisions(road.services.store).of(job.id)


def sweep(road: Road, what: str) -> dict[str, Any]:
    """Sweep until something of that kind was found; what the run recorded."""
    return eventually(lambda: (run := road.services.watchdog.reap()).outcome[what] and run.outcome, within_s=5)


def test_a_lost_lease_is_queued_again_and_told(modelled: Road) -> None:
    job = modelled.submit()
    lose(modelled)
    assert list(sweep(modelled, "requeued")["requeued"]) == [job.id]
    again = modelled.job(job)
    assert (again.status, again.fence, again.attempts) == (JobStatus.QUEUED, 2, 1)
    assert modelled.depth() == 1


def test_a_worker_that_is_quicker_than_the_sweep_keeps_its_attempt(modelled: Road) -> None:
    """Requeued and picked again before the sweep has told the record of the lost lease."""
    job = modelled.submit()
    services = modelled.services

    class Slow(JobRecord):
        def move(self, job_id: str, event: JobEvent, *decided: Decision, **how: Any) -> bool:
            if event is JobEvent.LEASE_LOST:
                found = services.scripts.dispatch(lease_ms=60_000, holder="quick", places=PLACES)
                assert isinstance(found, Delivery)
                assert services.attempts.begin(job_id, found.fence, "quick") is not None
            return super().move(job_id, event, *decided, **how)

    lose(modelled)
    slow = Slow(services.store)
    watchdog = watchdog_with(modelled, slow, Attempts(slow))
    eventually(lambda: watchdog.reap().outcome["requeued"], within_s=2)
    assert modelled.job(job).status is JobStatus.RUNNING
    by_time = sorted(kept(modelled, job), key=lambda each: each.at_ms)
    assert [(each.kind, each.facts.get("fence")) for each in by_time] == [
        (DecisionKind.ADMITTED, None),
        (DecisionKind.DISPATCHED, 1),
        (DecisionKind.LEASE_LOST, 1),
        (DecisionKind.DISPATCHED, 2),
    ], "that its first worker was lost is told all the same"
    assert services.attempts.finish(job.id, 2, {}, prompt_tokens=1, completion_tokens=1, first_token_ms=1)
    assert modelled.job(job).status is JobStatus.SUCCEEDED


def test_a_worker_that_is_lost_before_it_has_said_anything_is_told_too(modelled: Road) -> None:
    job = modelled.submit()
    found = modelled.services.scripts.dispatch(lease_ms=1, holder="test", places=PLACES)
    assert isinstance(found, Delivery)
    sweep(modelled, "requeued")
    assert [each.kind for each in kept(modelled, job)] == [DecisionKind.ADMITTED, DecisionKind.LEASE_LOST]


def test_a_job_that_ended_has_not_lost_its_worker(modelled: Road) -> None:
    """Its result is on record, only its message was not settled."""
    job = modelled.submit()
    lose(modelled)
    assert modelled.services.attempts.finish(job.id, 1, {}, prompt_tokens=1, completion_tokens=1, first_token_ms=1)
    sweep(modelled, "requeued")
    assert [each.kind for each in kept(modelled, job)] == [DecisionKind.ADMITTED, DecisionKind.DISPATCHED]


def test_a_request_without_a_row_keeps_nothing_that_its_row_would_meet(modelled: Road) -> None:
    """A synchronous one: its row comes when all is over, with its decisions numbered from 1."""
    modelled.services.attempts.lost("chatcmpl-1", 1, now_ms())
    assert Decisions(modelled.services.store).of("chatcmpl-1") == []


def test_the_requests_whose_workers_were_lost_are_in_the_log(modelled: Road) -> None:
    job = modelled.submit()
    lose(modelled)
    with capture_logs() as logs:
        sweep(modelled, "requeued")
    assert [each["requests"] for each in logs if each["event"] == "leases were lost"] == [[job.id]]


def test_the_last_lost_lease_fails_the_job_and_keeps_the_message(modelled: Road) -> None:
    job = modelled.submit()
    for attempt in range(3):
        lose(modelled)
        sweep(modelled, "dead" if attempt == 2 else "requeued")
    failed = modelled.job(job)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert (failed.error["status"], failed.error["code"]) == (500, "attempts_exhausted")
    assert modelled.services.queues.position_of(job.id).dead


def test_a_cancelled_job_whose_worker_died_is_cancelled(modelled: Road) -> None:
    job = modelled.submit()
    lose(modelled)
    assert modelled.services.jobs.cancel(modelled.tenant.id, job.id).status is JobStatus.RUNNING
    sweep(modelled, "withdrawn")
    assert modelled.job(job).status is JobStatus.CANCELLED


def test_what_waits_too_long_expires_with_an_answer(modelled: Road) -> None:
    job = modelled.submit(ttl_ms=1)
    sweep(modelled, "expired")
    expired = modelled.job(job)
    assert expired.status is JobStatus.EXPIRED
    assert expired.error is not None
    assert expired.error["code"] == "deadline_exceeded"
    assert modelled.depth() == 0


def test_a_row_without_a_message_gets_its_answer_all_the_same(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    job = modelled.submit(ttl_ms=1)
    modelled.services.redis.flushall()
    monkeypatch.setattr(module, "OVERDUE_AFTER_MS", 0)
    assert sweep(modelled, "overdue")["overdue"] == [job.id]
    assert modelled.job(job).status is JobStatus.EXPIRED


def test_a_running_row_that_the_queue_has_forgotten_fails(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker was emptied, or the watchdog died between the reap and the record."""
    job = modelled.submit(ttl_ms=300)
    found = modelled.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(found, Delivery)
    assert modelled.services.attempts.begin(job.id, found.fence, "w") is not None
    monkeypatch.setattr(module, "OVERDUE_AFTER_MS", 0)
    record = JobRecord(modelled.services.store)
    eventually(lambda: record.overdue(now_ms(), 9), within_s=2)
    assert modelled.services.watchdog.reap().outcome["overdue"] == []
    assert modelled.job(job).status is JobStatus.RUNNING, "its lease is held: it may run on"
    modelled.services.redis.flushall()
    assert modelled.services.watchdog.reap().outcome["overdue"] == [job.id]
    failed = modelled.job(job)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "worker_lost"


def test_a_row_whose_message_is_dead_fails_even_if_that_was_never_told(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for the three attempts, which nobody tells the record of.
    job = modelled.submit(ttl_ms=1_500)
    scripts = modelled.services.scripts
    for _ in range(3):
        lose(modelled)
        eventually(lambda: scripts.reap(limit=9) != Reaped(), within_s=2)
    assert modelled.services.queues.position_of(job.id).dead
    monkeypatch.setattr(module, "OVERDUE_AFTER_MS", 0)
    assert sweep(modelled, "overdue")["overdue"] == [job.id]
    failed = modelled.job(job)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "attempts_exhausted"


def test_rows_that_stay_do_not_hide_those_behind_them(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(module, "OVERDUE_AFTER_MS", 0)
    held = modelled.submit(ttl_ms=300)
    found = modelled.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(found, Delivery)
    assert modelled.services.attempts.begin(held.id, found.fence, "w") is not None
    behind = modelled.submit(ttl_ms=300)
    # Its message is gone, but not its row.
    modelled.services.scripts.withdraw(task=behind.id)
    assert sweep(modelled, "overdue")["overdue"] == [behind.id]
    assert modelled.job(held).status is JobStatus.RUNNING


def test_what_the_record_could_not_take_is_told_with_the_next_sweep(modelled: Road) -> None:
    """SQL fails between two rows: the order has let go of both, and neither job may stay as it was."""
    jobs = [modelled.submit(ttl_ms=1) for _ in range(3)]
    services = modelled.services
    away: list[StoreUnavailable] = []

    class Failing(type(services.attempts)):  # type: ignore[misc]
        def expire(self, job_id: str) -> bool:
            if away:
                raise away.pop()
            away.append(StoreUnavailable("away"))
            return bool(super().expire(job_id))

    record = JobRecord(services.store)
    watchdog = watchdog_with(modelled, record, Failing(record))
    eventually(lambda: _all_due(modelled), within_s=2)
    with pytest.raises(StoreUnavailable):
        watchdog.reap()
    assert modelled.depth() == 0
    away.clear()
    for _ in range(3):
        try:
            watchdog.reap()
        except StoreUnavailable:
            continue
    assert [modelled.job(job).status for job in jobs] == [JobStatus.EXPIRED] * 3


def _all_due(road: Road) -> bool:
    seconds, micros = road.services.redis.time()
    now_ms = int(seconds) * 1_000 + int(micros) // 1_000
    return road.services.redis.zcount(f"{road.services.scripts.key}:expiry", "-inf", now_ms) == 3


@pytest.mark.parametrize(("priority", "moved", "relegated"), [(5, "relegated", 1), (0, "missed", 0)])
def test_what_can_no_longer_start_in_time_is_moved_once_and_only_that(
    modelled: Road, priority: int, moved: str, relegated: int
) -> None:
    old, new = modelled.submit(), modelled.submit()
    scripts = modelled.services.scripts
    assert scripts.rerank(task=old.id, priority=priority) == 1
    client, key = modelled.services.redis, scripts.key
    tag = client.hget(f"{key}:tasks", old.id)
    assert tag is not None
    client.hincrby(f"{key}:msg:{tag.decode()}", "arrival", -60_000)
    client.zincrby(f"{key}:due", -60_000, tag)
    assert modelled.services.watchdog.age().outcome[moved] == (old.id,)
    assert modelled.services.watchdog.age().outcome[moved] == ()
    (lane,) = [each for each in modelled.services.queues.lanes() if each.lane == "vip.light"]
    assert (lane.depth, lane.relegated) == (2, relegated)
    assert new.id != old.id


def test_each_run_leaves_a_record_and_old_ones_go(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_IDLE_RUNS", 3)
    watchdog = modelled.services.watchdog
    for _ in range(3):
        watchdog.reap()
        watchdog.age()
    runs = watchdog.runs(50)
    assert [run.task for run in runs] == ["age", "reap", "age"]
    assert all(run.duration_us > 0 and run.started_ms > 1_700_000_000_000 for run in runs)
    assert runs[1].outcome == {}, "it found nothing to do"
    assert [run.task for run in watchdog.runs(1)] == ["age"]


def test_runs_that_did_nothing_do_not_crowd_out_those_that_did(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_IDLE_RUNS", 2)
    monkeypatch.setattr(module, "KEEP_RUNS", 2)
    watchdog = modelled.services.watchdog
    jobs = []
    for _ in range(3):
        jobs.append(modelled.submit(ttl_ms=1).id)
        sweep(modelled, "expired")
        for _ in range(3):
            watchdog.age()
    runs = watchdog.runs(50)
    assert [run.outcome for run in runs if run.outcome] == [{"expired": [jobs[2]]}, {"expired": [jobs[1]]}]
    assert sum(run.outcome == {} for run in runs) == 2


def test_a_run_that_failed_leaves_its_reason(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> None:
        raise redis.ConnectionError("no broker\nand more")

    monkeypatch.setattr(modelled.services.scripts, "reap", broken)
    with pytest.raises(redis.ConnectionError):
        modelled.services.watchdog.reap()
    (run,) = modelled.services.watchdog.runs(9)
    assert (run.task, run.outcome) == ("reap", {"error": "ConnectionError: no broker"})


def test_while_the_record_is_away_the_order_lets_go_of_nothing(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    job = modelled.submit(ttl_ms=1)

    def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(modelled.services.store, "ping", away)
    with pytest.raises(StoreUnavailable):
        modelled.services.watchdog.reap()
    assert modelled.depth() == 1
    assert modelled.job(job).status is JobStatus.QUEUED

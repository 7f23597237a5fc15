"""Do both databases keep decisions and usage as they are told, bounded, and in one transaction with the move?"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, select

from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.service.accounts import Accounts
from qosqueue.service.attempts import Attempts
from qosqueue.store import decisions
from qosqueue.store.decisions import MOST, Decision, DecisionKind, Decisions
from qosqueue.store.job_record import JobRecord, OpenJob
from qosqueue.store.schema import downgrade, upgrade
from qosqueue.store.session import Store, open_store
from qosqueue.store.tables import DecisionRow, JobRow
from qosqueue.store.usage import Usage, UsageRecord, charge, day_of
from tests.support.jobs import WAITING

FAR_MS = 1 << 42
JOB = WAITING["id"]
ADMITTED = Decision(DecisionKind.ADMITTED, 1, {"lane": "vip.light", "é": None})


@pytest.fixture
def tenant(record: Store) -> str:
    return Accounts(record).create_tenant("a", "vip", actor="test").id


def insert(record: Store, tenant: str, **columns: Any) -> JobRecord:
    jobs = JobRecord(record)
    row = WAITING | {"tenant_id": tenant, "expires_ms": FAR_MS} | columns
    jobs.insert([row], {row["id"]: [ADMITTED]})
    return jobs


def test_decisions_are_kept_in_order_with_the_move_they_tell_of(record: Store, tenant: str) -> None:
    attempts = Attempts(insert(record, tenant))
    assert attempts.begin(JOB, 1, "w", "live:1200:1:5:0:0:3:0:0:0:0:2:0:0:0:0:700:0:0:0:1:0") is not None
    assert attempts.begin(JOB, 0, "late") is None
    admitted, dispatched = Decisions(record).of(JOB)
    assert admitted == ADMITTED
    met = {"stand": "live", "waited_ms": 1_200, "own_waiting": 1, "place_waiting": 5, "began_vip": 3, "began_own": 2}
    assert dispatched.facts == {
        "fence": 1,
        "worker": "w",
        "met": met | {"held_tenant_ms": 700, "priority": 1},
    }


def test_of_one_request_no_more_than_a_few_are_kept_and_they_go_with_its_row(record: Store, tenant: str) -> None:
    jobs = insert(record, tenant)
    keeper = Decisions(record)
    for number in range(MOST + 5):
        keeper.keep(JOB, Decision(DecisionKind.RERANKED, number, {}))
    assert len(keeper.of(JOB)) == MOST
    assert not jobs.amend("job_unknown", ADMITTED)
    with record.session() as session:
        many = [Decision(DecisionKind.RETRIED, number, {}) for number in range(MOST + 5)]
        session.execute(delete(JobRow))
        assert session.scalar(select(func.count()).select_from(DecisionRow)) == 0
        session.add(JobRow(**(WAITING | {"tenant_id": tenant})))
        session.flush()
        decisions.insert_all(session, {JOB: many})
    assert len(keeper.of(JOB)) == MOST


def test_decisions_can_be_asked_for_in_sql(record: Store, tenant: str) -> None:
    insert(record, tenant)
    with record.session() as session:
        query = select(JobRow.tenant_id, DecisionRow.kind).join(DecisionRow, DecisionRow.request_id == JobRow.id)
        assert session.execute(query).all() == [(tenant, "admitted")]


def test_usage_adds_up_by_day_tenant_and_model(record: Store, tenant: str) -> None:
    def used(day: str, model: str, count: int) -> Usage:
        return Usage(day, tenant, model, count, 10 * count, 100 * count, 1_000 * count)

    with record.session() as session:
        charge(session, [used("2026-01-02", "m", 1), used("2026-01-01", "m", 2), used("2026-01-02", "m", 3)])
    with record.session() as session:
        charge(session, [used("2026-01-02", "m", 5), used("2026-01-02", "n", 7)])
    usage = UsageRecord(record)
    assert usage.list() == [used("2026-01-01", "m", 2), used("2026-01-02", "m", 9), used("2026-01-02", "n", 7)]
    assert usage.list(since="2026-01-02", until="2026-01-02", tenant_id="ten_other") == []
    assert [each.requests for each in usage.list(since="2026-01-02")] == [9, 7]
    assert [each.requests for each in usage.list(until="2026-01-01", tenant_id=tenant)] == [2]


def test_a_result_is_charged_with_the_move_that_stores_it(record: Store, tenant: str) -> None:
    attempts = Attempts(insert(record, tenant))
    attempts.begin(JOB, 1, "w")
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "first_token_ms": 1, "gpu_ms": 5}
    assert attempts.finish(JOB, 1, {}, **counts)
    assert not attempts.finish(JOB, 1, {}, **counts)
    (used,) = UsageRecord(record).list()
    job = JobRecord(record).find(JOB)
    assert job is not None
    assert job.finished_ms is not None
    assert used == Usage(day_of(job.finished_ms), tenant, "sim", 1, 3, 4, 5)


def test_open_jobs_come_page_by_page_with_what_they_count_as(record: Store, tenant: str) -> None:
    other = Accounts(record).create_tenant("b", "basic", actor="test", organisation="both").id
    ids = [f"job_{number:024x}" for number in range(5)]
    for number, job_id in enumerate(ids):
        insert(record, other if number == 3 else tenant, id=job_id, created_ms=number // 2)
    jobs = JobRecord(record)
    assert jobs.move(ids[4], JobEvent.CANCEL, finished_ms=1)
    page = jobs.open([JobStatus.QUEUED], FAR_MS, 3)
    assert page == [OpenJob(ids[0], 0), OpenJob(ids[1], 0), OpenJob(ids[2], 1)]
    assert jobs.open([JobStatus.QUEUED], FAR_MS, 3, page[-1]) == [OpenJob(ids[3], 1)]
    assert jobs.open([JobStatus.QUEUED], 1, 9) == page[:2]
    assert [(job.id, whose.counts_as) for job, whose in jobs.open_jobs(ids[2:])] == [(ids[2], tenant), (ids[3], "both")]


def test_only_what_waits_is_cancelled_at_once_and_only_in_its_transaction(record: Store, tenant: str) -> None:
    standing = {JobStatus.ACCEPTED, JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.SUCCEEDED}
    for status in standing:
        jobs = insert(record, tenant, id=f"job_{status}", status=status)
    names, why = sorted(f"job_{status}" for status in standing), {"code": "purged", "message": "because"}
    with record.session() as session:
        assert jobs.cancel_waiting(session, names, why) == {"job_accepted", "job_queued"}
        session.rollback()
    with record.session() as session:
        assert jobs.cancel_waiting(session, names, why) == {"job_accepted", "job_queued"}
        assert jobs.cancel_waiting(session, names, why) == frozenset()
    with record.session() as session:
        assert jobs.cancel_waiting(session, names, why, also_running=True) == {"job_running"}
    found = {name: jobs.find(name) for name in names}
    assert {name for name, job in found.items() if job and job.error == why} == set(names) - {"job_succeeded"}


def test_who_began_between_is_counted_by_tenant(record: Store, tenant: str) -> None:
    other = Accounts(record).create_tenant("b", "basic", actor="test").id
    for number, (whose, started_ms, model) in enumerate(
        [(tenant, 10, "sim"), (tenant, 20, "sim"), (other, 15, "sim"), (other, 15, "else"), (other, 21, "sim")]
    ):
        insert(record, whose, id=f"job_{number:024x}", started_ms=started_ms, model=model)
    began = JobRecord(record).began_between("sim", 10, 20, besides=f"job_{0:024x}")
    assert sorted(began) == sorted([(tenant, 1), (other, 1)])


def test_rows_outlive_the_step_down_and_up(empty_url: str) -> None:
    upgrade(empty_url)
    store = open_store(empty_url)
    owner = Accounts(store).create_tenant("a", "vip", actor="test").id
    insert(store, owner)
    with store.session() as session:
        charge(session, [Usage("2026-01-01", owner, "m", 1, 1, 1, 1)])
    store.close()
    downgrade(empty_url, "0005")
    upgrade(empty_url)
    store = open_store(empty_url)
    job = JobRecord(store).find(JOB)
    assert job is not None
    assert (job.cost_ms, job.gpu_ms, Decisions(store).of(JOB), UsageRecord(store).list()) == (None, None, [], [])
    store.close()

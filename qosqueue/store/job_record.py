"""What is written down of a job, and when? Each move is one UPDATE that the lifecycle's table allows, or nothing.

A move by a worker shows its fence: an attempt whose lease went to another can write nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, or_, select, tuple_, update
from sqlalchemy.orm import Session

from qosqueue.policy.lifecycle import TERMINAL, JobEvent, JobStatus, sources, target
from qosqueue.store import decisions
from qosqueue.store.bulk_tables import JobWebhookRow
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision
from qosqueue.store.records import Job, Tenant, job_of, tenant_of
from qosqueue.store.session import Store
from qosqueue.store.tables import JobRow, TenantRow
from qosqueue.store.usage import Usage, charge, day_of

OPEN = tuple(status for status in JobStatus if status not in TERMINAL)


@dataclass(frozen=True)
class OpenJob:
    """A job that has not ended, by which a page of them goes on."""

    id: str
    created_ms: int


@dataclass(frozen=True)
class OverdueJob:
    """A job that has not ended although its time to live has."""

    id: str
    status: JobStatus
    created_ms: int


class JobRecord:
    """The jobs table. All methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def insert(
        self,
        rows: list[dict[str, Any]],
        told: Mapping[str, Sequence[Decision]] | None = None,
        webhooks: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write new jobs, whole rows by column name, what was decided about them, and whom to tell of their ends, in
        one transaction.

        What ended with something served is charged.
        """
        with self._store.session() as session:
            # On the connection, not the session: there are no objects to keep up to date.
            session.connection().execute(insert(JobRow), rows)
            decisions.insert_all(session, told or {})
            charge(session, [_usage(row) for row in rows if row["gpu_ms"] is not None])
            if webhooks:
                session.connection().execute(insert(JobWebhookRow), webhooks)

    def move(self, job_id: str, event: JobEvent, *decided: Decision, fence: int | None = None, **columns: Any) -> bool:
        """Let `event` happen to a job, set `columns` and keep what was `decided`; `gpu_ms` among the columns is
        charged.

        A move that the lifecycle or the fence forbids changes nothing and returns False: another process was first.
        """
        statement = (
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.status.in_(sources(event)))
            .values(status=target(event), **columns)
        )
        if fence is not None:
            # Queued again, no attempt before may say any more: the row already stands at the next one's fence.
            again = target(event) is JobStatus.QUEUED
            statement = statement.where(JobRow.fence <= fence).values(fence=fence + 1 if again else fence)
        with self._store.session() as session:
            if not session.connection().execute(statement).rowcount:
                return False
            for each in decided:
                decisions.append(session, [job_id], each)
            if columns.get("gpu_ms") is not None:
                self._charge(session, job_id)
            return True

    def amend(self, job_id: str, decided: Decision, **columns: Any) -> bool:
        """Keep what was decided about a job that waits, and set `columns`; False if it does not wait any more."""
        waits = (JobStatus.ACCEPTED, JobStatus.QUEUED)
        # Without columns, too, it says whether there is such a job; and nobody else appends meanwhile.
        statement = update(JobRow).where(JobRow.id == job_id, JobRow.status.in_(waits)).values(id=job_id, **columns)
        with self._store.session() as session:
            if not session.connection().execute(statement).rowcount:
                return False
            decisions.append(session, [job_id], decided)
            return True

    def keep(self, job_id: str, decided: Decision) -> None:
        """Keep what was decided about a job, whatever became of it since."""
        with self._store.session() as session:
            decisions.append(session, [job_id], decided)

    def keep_of_attempt(self, job_id: str, fence: int, decided: Decision) -> None:
        """Keep what was decided about an attempt at a job, unless it has no row yet or that attempt was its end."""
        goes_on = or_(JobRow.status.not_in(TERMINAL), JobRow.fence > fence)
        with self._store.session() as session:
            if session.scalar(select(JobRow.id).where(JobRow.id == job_id, goes_on)) is not None:
                decisions.append(session, [job_id], decided)

    def note(self, job_id: str, **columns: Any) -> None:
        """Set `columns` of a job that nothing was noted of yet, whatever its status is."""
        unknown = (getattr(JobRow, name).is_(None) for name in columns)
        with self._store.session() as session:
            session.execute(update(JobRow).where(JobRow.id == job_id, *unknown).values(**columns))

    def expires_ms(self, job_id: str) -> int | None:
        """When the job's time to live ends (ms since the epoch)."""
        with self._store.session() as session:
            return session.scalar(select(JobRow.expires_ms).where(JobRow.id == job_id))

    def find(self, job_id: str, tenant_id: str | None = None) -> Job | None:
        """A job by its id; with a tenant only if it is that tenant's."""
        query = select(JobRow).where(JobRow.id == job_id)
        if tenant_id is not None:
            query = query.where(JobRow.tenant_id == tenant_id)
        with self._store.session() as session:
            row = session.scalar(query)
            return None if row is None else job_of(row)

    def status(self, job_id: str) -> JobStatus | None:
        """Only the status: what a waiting client asks for many times."""
        with self._store.session() as session:
            found = session.scalar(select(JobRow.status).where(JobRow.id == job_id))
            return None if found is None else JobStatus(found)

    def errors(self, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Why each of these jobs failed, for those that did."""
        query = select(JobRow.id, JobRow.error).where(JobRow.id.in_(job_ids), JobRow.error.is_not(None))
        with self._store.session() as session:
            return {job_id: error for job_id, error in session.execute(query) if error is not None}

    def overdue(self, expired_before_ms: int, limit: int, after: OverdueJob | None = None) -> list[OverdueJob]:
        """Jobs that wait or run although their time to live ended before an instant; the oldest, from `after` on."""
        query = (
            select(JobRow.id, JobRow.status, JobRow.created_ms)
            .where(JobRow.status.in_(OPEN), JobRow.expires_ms < expired_before_ms)
            .order_by(JobRow.created_ms, JobRow.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(tuple_(JobRow.created_ms, JobRow.id) > (after.created_ms, after.id))
        with self._store.session() as session:
            return [
                OverdueJob(job_id, JobStatus(status), created) for job_id, status, created in session.execute(query)
            ]

    def open(
        self, statuses: Sequence[JobStatus], created_before_ms: int, limit: int, after: OpenJob | None = None
    ) -> list[OpenJob]:
        """Jobs in these statuses whose time to live has not ended; the oldest, from `after` on."""
        query = (
            select(JobRow.id, JobRow.created_ms)
            .where(JobRow.status.in_(statuses), JobRow.created_ms < created_before_ms, JobRow.expires_ms > now_ms())
            .order_by(JobRow.created_ms, JobRow.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(tuple_(JobRow.created_ms, JobRow.id) > (after.created_ms, after.id))
        with self._store.session() as session:
            return [OpenJob(job_id, created_ms) for job_id, created_ms in session.execute(query)]

    def open_jobs(self, job_ids: Sequence[str]) -> list[tuple[Job, Tenant]]:
        """Those of these jobs that have not ended, the oldest first, each with its tenant."""
        query = (
            select(JobRow, TenantRow)
            .join(TenantRow, TenantRow.id == JobRow.tenant_id)
            .where(JobRow.id.in_(job_ids), JobRow.status.in_(OPEN))
            .order_by(JobRow.created_ms, JobRow.id)
        )
        with self._store.session() as session:
            return [(job_of(job), tenant_of(tenant)) for job, tenant in session.execute(query)]

    def queued(self, job_ids: Sequence[str], queued_ms: int, decided: Decision | None = None) -> None:
        """Note that these are queued, and keep why; a worker may have begun one of them already."""
        if not job_ids:
            return
        enqueued = update(JobRow).where(JobRow.id.in_(job_ids), JobRow.status.in_(sources(JobEvent.ENQUEUED)))
        unknown = update(JobRow).where(JobRow.id.in_(job_ids), JobRow.queued_ms.is_(None))
        with self._store.session() as session:
            connection = session.connection()
            # In this order also on SQLite, where what is written first takes the lock.
            connection.execute(unknown.values(queued_ms=queued_ms))
            connection.execute(enqueued.values(status=target(JobEvent.ENQUEUED)))
            if decided is not None:
                decisions.append(session, job_ids, decided)

    def cancel_waiting(
        self, session: Session, job_ids: Sequence[str], error: dict[str, Any], *, also_running: bool = False
    ) -> frozenset[str]:
        """Cancel those of these jobs that wait, in the caller's transaction, and keep why; which ones were. With
        `also_running` those, too, that run as far as the record knows."""
        from_here = sources(JobEvent.CANCEL) - (set() if also_running else {JobStatus.RUNNING})
        statement = update(JobRow).where(JobRow.id.in_(job_ids), JobRow.status.in_(from_here))
        cancelled = statement.values(status=target(JobEvent.CANCEL), finished_ms=now_ms(), error=error)
        return frozenset(session.connection().scalars(cancelled.returning(JobRow.id)))

    def _charge(self, session: Session, job_id: str) -> None:
        columns = (JobRow.tenant_id, JobRow.model, JobRow.prompt_tokens, JobRow.completion_tokens)
        query = select(*columns, JobRow.gpu_ms, JobRow.finished_ms).where(JobRow.id == job_id)
        charge(session, [_usage(dict(row)) for row in session.connection().execute(query).mappings()])

    def began_between(self, model: str, since_ms: int, until_ms: int, besides: str) -> list[tuple[str, int]]:
        """Whose requests of a model began from one instant to another (the last attempt counts), and how many; the most
        first. A synchronous request counts once it has ended."""
        count = func.count().label("count")
        query = (
            select(JobRow.tenant_id, count)
            .where(JobRow.model == model, JobRow.started_ms.between(since_ms, until_ms), JobRow.id != besides)
            .group_by(JobRow.tenant_id)
            .order_by(count.desc(), JobRow.tenant_id)
        )
        with self._store.session() as session:
            return [(tenant_id, int(number)) for tenant_id, number in session.execute(query)]

    def newest(self, *, tenant_id: str | None, limit: int, before: Job | None = None) -> list[Job]:
        """Jobs, newest first, from just before `before` on: a page that no later arrival shifts."""
        query = select(JobRow).order_by(JobRow.created_ms.desc(), JobRow.id.desc()).limit(limit)
        if tenant_id is not None:
            query = query.where(JobRow.tenant_id == tenant_id)
        if before is not None:
            older = JobRow.created_ms < before.created_ms
            query = query.where(older | ((JobRow.created_ms == before.created_ms) & (JobRow.id < before.id)))
        with self._store.session() as session:
            return [job_of(row) for row in session.scalars(query)]


def _usage(row: Mapping[str, Any]) -> Usage:
    """What a row that ended has used."""
    return Usage(
        day=day_of(row["finished_ms"]),
        tenant_id=row["tenant_id"],
        model=row["model"],
        requests=1,
        prompt_tokens=row["prompt_tokens"] or 0,
        completion_tokens=row["completion_tokens"] or 0,
        gpu_ms=row["gpu_ms"],
    )

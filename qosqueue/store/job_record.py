"""What is written down of a job, and when? Each move is one UPDATE that the lifecycle's table allows, or nothing.

A move by a worker shows its fence: an attempt whose lease went to another can write nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, tuple_, update

from qosqueue.policy.lifecycle import TERMINAL, JobEvent, JobStatus, sources, target
from qosqueue.store.records import Job, job_of
from qosqueue.store.session import Store
from qosqueue.store.tables import JobRow

OPEN = tuple(status for status in JobStatus if status not in TERMINAL)


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

    def insert(self, rows: list[dict[str, Any]]) -> None:
        """Write new jobs, whole rows by column name, in one transaction."""
        with self._store.session() as session:
            # On the connection, not the session: there are no objects to keep up to date.
            session.connection().execute(insert(JobRow), rows)

    def move(self, job_id: str, event: JobEvent, *, fence: int | None = None, **columns: Any) -> bool:
        """Let `event` happen to a job and set `columns`.

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
            return bool(session.connection().execute(statement).rowcount)

    def amend(self, job_id: str, **columns: Any) -> bool:
        """Set `columns` of a job that waits; False if it does not wait any more."""
        waits = (JobStatus.ACCEPTED, JobStatus.QUEUED)
        statement = update(JobRow).where(JobRow.id == job_id, JobRow.status.in_(waits)).values(**columns)
        with self._store.session() as session:
            return bool(session.connection().execute(statement).rowcount)

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

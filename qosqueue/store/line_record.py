"""What is written down of the lines of a batch? All writes are within `BatchRecord.holding`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from qosqueue.policy.batch import OPEN_LINES, LineState
from qosqueue.policy.lifecycle import TERMINAL, JobStatus
from qosqueue.store import decisions
from qosqueue.store.bulk_tables import BatchLineRow, BatchRow
from qosqueue.store.decisions import Decision
from qosqueue.store.session import Store
from qosqueue.store.tables import JobRow

# A database takes only so many values in one statement.
VALUES_AT_ONCE = 500


@dataclass(frozen=True)
class NewLine:
    """A line as it was read: `error` says why it is invalid, if it is. Offset and length are bytes of the file."""

    number: int
    custom_id: str | None
    offset: int
    length: int
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class EndedJob:
    """A queued line whose job has ended."""

    number: int
    status: JobStatus


@dataclass(frozen=True)
class EndedLine:
    """A line that has ended, with what its job left."""

    number: int
    custom_id: str | None
    state: LineState
    error: dict[str, Any] | None
    job_id: str | None
    result: dict[str, Any] | None
    job_error: dict[str, Any] | None


class LineRecord:
    """The lines of batches. All methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def taken_ids(self, batch_id: str, custom_ids: Sequence[str]) -> set[str]:
        """Which of these an earlier line has."""
        found: set[str] = set()
        with self._store.session() as session:
            for start in range(0, len(custom_ids), VALUES_AT_ONCE):
                some = BatchLineRow.custom_id.in_(custom_ids[start : start + VALUES_AT_ONCE])
                rows = session.scalars(select(BatchLineRow.custom_id).where(BatchLineRow.batch_id == batch_id, some))
                found.update(each for each in rows if each is not None)
        return found

    def insert(self, session: Session, batch_id: str, lines: Iterable[NewLine]) -> None:
        """Write down lines as they were read."""
        rows = [{**vars(line), "batch_id": batch_id, "job_id": None, "state": _state_of(line)} for line in lines]
        if rows:
            session.connection().execute(insert(BatchLineRow), rows)

    def waiting(self, batch_id: str, limit: int) -> list[NewLine]:
        """The next lines that are to become jobs, in the order of the file."""
        return self._lines(batch_id, limit, BatchLineRow.state == LineState.WAITING)

    def _lines(self, batch_id: str, limit: int, *where: Any) -> list[NewLine]:
        query = select(BatchLineRow).where(BatchLineRow.batch_id == batch_id, *where)
        with self._store.session() as session:
            return [_line_of(row) for row in session.scalars(query.order_by(BatchLineRow.number).limit(limit))]

    def count(self, batch_id: str, *states: LineState) -> int:
        """How many lines are in one of these states."""
        query = select(func.count()).where(BatchLineRow.batch_id == batch_id, BatchLineRow.state.in_(states))
        with self._store.session() as session:
            return session.scalar(query) or 0

    def become_jobs(
        self,
        session: Session,
        batch_id: str,
        jobs: Sequence[tuple[int, dict[str, Any]]],
        told: Mapping[str, Sequence[Decision]],
    ) -> None:
        """Lines, by number, become jobs (whole rows) with what was decided about them: both or neither."""
        if not jobs:
            return
        connection = session.connection()
        connection.execute(insert(JobRow), [row for _, row in jobs])
        decisions.insert_all(session, told)
        for number, row in jobs:
            line = update(BatchLineRow).where(BatchLineRow.batch_id == batch_id, BatchLineRow.number == number)
            connection.execute(line.values(state=LineState.QUEUED, job_id=row["id"]))

    def refuse(self, session: Session, batch_id: str, number: int, error: dict[str, Any]) -> None:
        """A line that can become no job ends with its error."""
        line = update(BatchLineRow).where(BatchLineRow.batch_id == batch_id, BatchLineRow.number == number)
        session.execute(line.values(state=LineState.FAILED, error=error))

    def ended_jobs(self, batch_id: str, limit: int) -> list[EndedJob]:
        """Queued lines whose job has ended."""
        query = (
            select(BatchLineRow.number, JobRow.status)
            .join(JobRow, JobRow.id == BatchLineRow.job_id)
            .where(BatchLineRow.batch_id == batch_id, BatchLineRow.state == LineState.QUEUED)
            .where(JobRow.status.in_(TERMINAL))
            .limit(limit)
        )
        with self._store.session() as session:
            return [EndedJob(number, JobStatus(status)) for number, status in session.execute(query)]

    def end(self, session: Session, batch_id: str, numbers: Sequence[int], state: LineState) -> int:
        """Queued lines come to their end; how many did."""
        ended = 0
        for start in range(0, len(numbers), VALUES_AT_ONCE):
            some = BatchLineRow.number.in_(numbers[start : start + VALUES_AT_ONCE])
            line = update(BatchLineRow).where(BatchLineRow.batch_id == batch_id, some)
            changed = line.where(BatchLineRow.state == LineState.QUEUED).values(state=state)
            ended += session.connection().execute(changed).rowcount
        return ended

    def end_waiting(self, session: Session, batch_id: str, state: LineState) -> int:
        """All lines that have not begun come to their end; how many did."""
        line = update(BatchLineRow).where(BatchLineRow.batch_id == batch_id)
        changed = line.where(BatchLineRow.state == LineState.WAITING).values(state=state)
        return session.connection().execute(changed).rowcount

    def open_jobs(self, batch_id: str, statuses: Iterable[JobStatus], limit: int) -> list[str]:
        """Jobs of queued lines that stand so."""
        query = (
            select(JobRow.id)
            .join(BatchLineRow, JobRow.id == BatchLineRow.job_id)
            .where(BatchLineRow.batch_id == batch_id, BatchLineRow.state == LineState.QUEUED)
            .where(JobRow.status.in_(list(statuses)))
            .limit(limit)
        )
        with self._store.session() as session:
            return list(session.scalars(query))

    def any_open(self, batch_id: str) -> bool:
        """Whether a line has not ended."""
        query = exists().where(BatchLineRow.batch_id == batch_id, BatchLineRow.state.in_(OPEN_LINES))
        with self._store.session() as session:
            return bool(session.scalar(select(query)))

    def ended(self, batch_id: str, after: int, limit: int) -> list[EndedLine]:
        """Lines that have ended, in the order of the file, behind the number `after`."""
        columns = (BatchLineRow.number, BatchLineRow.custom_id, BatchLineRow.state, BatchLineRow.error)
        query = (
            select(*columns, BatchLineRow.job_id, JobRow.result, JobRow.error)
            .outerjoin(JobRow, JobRow.id == BatchLineRow.job_id)
            .where(BatchLineRow.batch_id == batch_id, BatchLineRow.number > after)
            .where(BatchLineRow.state.not_in(OPEN_LINES))
            .order_by(BatchLineRow.number)
            .limit(limit)
        )
        with self._store.session() as session:
            return [
                EndedLine(number, custom_id, LineState(state), error, job_id, result, job_error)
                for number, custom_id, state, error, job_id, result, job_error in session.execute(query)
            ]

    def invalid(self, batch_id: str, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """The first lines that were refused, with why."""
        query = (
            select(BatchLineRow.number, BatchLineRow.error)
            .where(BatchLineRow.batch_id == batch_id, BatchLineRow.state == LineState.INVALID)
            .order_by(BatchLineRow.number)
            .limit(limit)
        )
        with self._store.session() as session:
            return [(number, error or {}) for number, error in session.execute(query)]

    def forget(self, ended_before_ms: int, limit: int) -> int:
        """Drop lines of batches that ended before an instant; how many. Their outputs are files."""
        ended_ms = func.coalesce(BatchRow.completed_ms, BatchRow.failed_ms, BatchRow.expired_ms, BatchRow.cancelled_ms)
        old = select(BatchRow.id).where(
            ended_ms < ended_before_ms, exists().where(BatchLineRow.batch_id == BatchRow.id)
        )
        with self._store.session() as session:
            batch_id = session.scalar(old.limit(1))
            if batch_id is None:
                return 0
            some = select(BatchLineRow.number).where(BatchLineRow.batch_id == batch_id).limit(limit)
            gone = delete(BatchLineRow).where(BatchLineRow.batch_id == batch_id, BatchLineRow.number.in_(some))
            return session.connection().execute(gone).rowcount


def _state_of(line: NewLine) -> LineState:
    return LineState.WAITING if line.error is None else LineState.INVALID


def _line_of(row: BatchLineRow) -> NewLine:
    return NewLine(row.number, row.custom_id, row.offset, row.length, row.error)

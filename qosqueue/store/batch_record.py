"""What is written down of batches, by tenants and by whoever works on one?

One process at a time works on a batch: it holds it, and each of its writes checks that it still does. So a process that
was stopped for a while, or was thought dead, writes nothing beside its successor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from qosqueue.policy.batch import ENDED_BATCHES, BatchEvent, BatchStatus, batch_sources, batch_target
from qosqueue.store.bulk_tables import BatchRow, FileRow
from qosqueue.store.clock import now_ms
from qosqueue.store.session import Store

HOLD_MS = 10_000


class Superseded(Exception):
    """Another process holds the batch now: nothing of the block was written."""


@dataclass(frozen=True)
class Batch:
    """A batch as its tenant may see it, and how far its input was read. Instants are ms since the epoch."""

    id: str
    tenant_id: str
    endpoint: str
    completion_window: str
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    output_ttl_ms: int | None
    status: BatchStatus
    errors: dict[str, Any] | None
    details: dict[str, Any] | None
    total: int
    completed: int
    failed: int
    read_bytes: int
    read_lines: int
    created_ms: int
    expires_ms: int
    in_progress_ms: int | None = None
    finalizing_ms: int | None = None
    completed_ms: int | None = None
    failed_ms: int | None = None
    expired_ms: int | None = None
    cancelling_ms: int | None = None
    cancelled_ms: int | None = None


class BatchRecord:
    """The batches table. All methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def insert(self, batch: Batch, *, most_open: int) -> str | None:
        """Write down a new batch; else why not: `no file` (of that tenant, for batches), or `too many` open ones."""
        ours = FileRow.id == batch.input_file_id, FileRow.tenant_id == batch.tenant_id, FileRow.purpose == "batch"
        open_ones = select(func.count()).where(
            BatchRow.tenant_id == batch.tenant_id, BatchRow.status.not_in(ENDED_BATCHES)
        )
        with self._store.change() as session:
            # Locked: who deletes the file at this moment comes before or after, not between.
            if session.scalar(select(FileRow.id).where(*ours).with_for_update()) is None:
                return "no file"
            if (session.scalar(open_ones) or 0) >= most_open:
                return "too many"
            session.add(BatchRow(**vars(batch), holder=None, held_until_ms=0))
        return None

    def find(self, batch_id: str, tenant_id: str | None = None) -> Batch | None:
        """A batch by its id; with a tenant only if it is that tenant's."""
        query = select(BatchRow).where(BatchRow.id == batch_id)
        if tenant_id is not None:
            query = query.where(BatchRow.tenant_id == tenant_id)
        with self._store.session() as session:
            row = session.scalar(query)
            return None if row is None else batch_of(row)

    def page(self, tenant_id: str, limit: int, after: Batch | None) -> list[Batch]:
        """A tenant's batches, newest first, from just behind `after` on."""
        query = select(BatchRow).where(BatchRow.tenant_id == tenant_id)
        if after is not None:
            same = (BatchRow.created_ms == after.created_ms) & (BatchRow.id < after.id)
            query = query.where(or_(BatchRow.created_ms < after.created_ms, same))
        query = query.order_by(BatchRow.created_ms.desc(), BatchRow.id.desc()).limit(limit)
        with self._store.session() as session:
            return [batch_of(row) for row in session.scalars(query)]

    def cancel(self, batch_id: str) -> bool:
        """Let a tenant take a batch back; False if it has ended, or soon will have."""
        with self._store.session() as session:
            return _move(session, batch_id, BatchEvent.CANCEL, cancelling_ms=now_ms())

    def open_ids(self) -> list[str]:
        """The batches that have not ended, oldest first."""
        query = (
            select(BatchRow.id).where(BatchRow.status.not_in(ENDED_BATCHES)).order_by(BatchRow.created_ms, BatchRow.id)
        )
        with self._store.session() as session:
            return list(session.scalars(query))

    def hold(self, batch_id: str, holder: str) -> bool:
        """Take a batch that nobody holds, or go on holding it."""
        at_ms = now_ms()
        free = or_(BatchRow.holder == holder, BatchRow.held_until_ms < at_ms)
        taken = (
            update(BatchRow)
            .where(BatchRow.id == batch_id, free, BatchRow.status.not_in(ENDED_BATCHES))
            .values(holder=holder, held_until_ms=at_ms + HOLD_MS)
        )
        with self._store.session() as session:
            return bool(session.connection().execute(taken).rowcount)

    def release(self, holder: str) -> None:
        """Let go of all that is held."""
        with self._store.session() as session:
            mine = update(BatchRow).where(BatchRow.holder == holder)
            session.execute(mine.values(holder=None, held_until_ms=0))

    @contextmanager
    def holding(self, batch_id: str, holder: str) -> Iterator[Session]:
        """A transaction of the one who holds the batch, which it goes on holding. Raises Superseded."""
        with self._store.change() as session:
            mine = update(BatchRow).where(BatchRow.id == batch_id, BatchRow.holder == holder)
            if not session.connection().execute(mine.values(held_until_ms=now_ms() + HOLD_MS)).rowcount:
                raise Superseded(batch_id)
            yield session

    def move(self, session: Session, batch_id: str, event: BatchEvent, **columns: Any) -> bool:
        """Let `event` happen within `holding`, and set `columns`; False if its tenant was first (a cancellation)."""
        return _move(session, batch_id, event, **columns)

    def count(self, session: Session, batch_id: str, **more: int) -> None:
        """Add to the counts of a batch, within `holding`."""
        added = {name: getattr(BatchRow, name) + number for name, number in more.items()}
        session.execute(update(BatchRow).where(BatchRow.id == batch_id).values(**added))

    def read_up_to(self, session: Session, batch_id: str, read_bytes: int, read_lines: int) -> None:
        """Note how far the input was read, within `holding`."""
        read = update(BatchRow).where(BatchRow.id == batch_id)
        session.execute(read.values(read_bytes=read_bytes, read_lines=read_lines))


def _move(session: Session, batch_id: str, event: BatchEvent, **columns: Any) -> bool:
    statement = (
        update(BatchRow)
        .where(BatchRow.id == batch_id, BatchRow.status.in_(batch_sources(event)))
        .values(status=batch_target(event), **columns)
    )
    return bool(session.connection().execute(statement).rowcount)


def batch_of(row: BatchRow) -> Batch:
    """The row as a record."""
    values = {name: getattr(row, name) for name in Batch.__dataclass_fields__}
    return Batch(**(values | {"status": BatchStatus(row.status)}))

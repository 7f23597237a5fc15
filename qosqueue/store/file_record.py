"""What is written down of a tenant's files? The bytes are kept elsewhere (service/files.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from qosqueue.policy.batch import ENDED_BATCHES
from qosqueue.store.bulk_tables import BatchRow, FileRow
from qosqueue.store.session import Store
from qosqueue.store.tables import TenantRow


@dataclass(frozen=True)
class StoredFile:
    """A file of a tenant; `bytes` is its size. Instants are ms since the epoch."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    bytes: int
    created_ms: int
    expires_ms: int


class FileRecord:
    """The files table. All methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def insert(self, file: StoredFile) -> None:
        """Write down a file whose bytes are in their place."""
        with self._store.session() as session:
            session.add(FileRow(**vars(file)))

    def insert_within(self, file: StoredFile, most_bytes: int) -> bool:
        """Write it down, unless its tenant's files would come to more than `most_bytes` with it; whether it was."""
        with self._store.change() as session:
            # Whoever else keeps a file of this tenant waits here, and counts this one.
            mine = select(TenantRow.id).where(TenantRow.id == file.tenant_id)
            session.execute(mine.with_for_update(key_share=True)).all()
            if _bytes_of(session, file.tenant_id) + file.bytes > most_bytes:
                return False
            session.add(FileRow(**vars(file)))
            return True

    def find(self, tenant_id: str, file_id: str) -> StoredFile | None:
        """A tenant's own file."""
        with self._store.session() as session:
            row = session.scalar(select(FileRow).where(FileRow.id == file_id, FileRow.tenant_id == tenant_id))
            return None if row is None else file_of(row)

    def page(
        self, tenant_id: str, limit: int, *, after: StoredFile | None, purpose: str | None, newest_first: bool
    ) -> list[StoredFile]:
        """A tenant's files by age, from just behind `after` on."""
        order = (FileRow.created_ms, FileRow.id)
        query = select(FileRow).where(FileRow.tenant_id == tenant_id).limit(limit)
        query = query.order_by(*(column.desc() for column in order) if newest_first else order)
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        if after is not None:
            further = (
                (FileRow.created_ms < after.created_ms, FileRow.id < after.id)
                if newest_first
                else (FileRow.created_ms > after.created_ms, FileRow.id > after.id)
            )
            query = query.where(or_(further[0], (FileRow.created_ms == after.created_ms) & further[1]))
        with self._store.session() as session:
            return [file_of(row) for row in session.scalars(query)]

    def delete_unless_read(self, file_id: str) -> bool:
        """Forget a file; False if a batch that has not ended still reads it, or if it is gone already."""
        reads = select(BatchRow.id).where(BatchRow.input_file_id == file_id, BatchRow.status.not_in(ENDED_BATCHES))
        with self._store.change() as session:
            gone = session.connection().execute(delete(FileRow).where(FileRow.id == file_id, ~reads.exists()))
            return bool(gone.rowcount)

    def expired(self, now_ms: int, limit: int) -> list[str]:
        """Files whose time is over, and which no batch reads."""
        reads = select(BatchRow.id).where(BatchRow.input_file_id == FileRow.id, BatchRow.status.not_in(ENDED_BATCHES))
        query = select(FileRow.id).where(FileRow.expires_ms < now_ms, ~reads.exists()).limit(limit)
        with self._store.session() as session:
            return list(session.scalars(query))

    def known(self, file_ids: Sequence[str]) -> set[str]:
        """Which of these are on record."""
        with self._store.session() as session:
            return set(session.scalars(select(FileRow.id).where(FileRow.id.in_(file_ids))))


def _bytes_of(session: Session, tenant_id: str) -> int:
    total = session.scalar(select(func.coalesce(func.sum(FileRow.bytes), 0)).where(FileRow.tenant_id == tenant_id))
    return int(total or 0)


def file_of(row: FileRow) -> StoredFile:
    """The row as a record."""
    return StoredFile(**{name: getattr(row, name) for name in StoredFile.__dataclass_fields__})

"""Who holds an idempotency key, and what was it answered? One row for each tenant and key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from qosqueue.store.session import Store
from qosqueue.store.tables import IdempotencyRow

# What each new key clears away of those that are over: more than one, so that the table does not grow for ever.
CLEARED_WITH_EACH = 10


@dataclass(frozen=True)
class KeyRecord:
    """A key as it stands. `running_until_ms` None: answered, with `answer`. Times in ms since the epoch."""

    tenant_id: str
    key: str
    claim: str
    fingerprint: str
    made_id: str
    running_until_ms: int | None
    expires_ms: int
    answer: dict[str, Any] | None


class IdempotencyRecord:
    """The table of keys. All methods raise StoreUnavailable; of two processes that write the same row one wins."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, record: KeyRecord, now_ms: int) -> bool:
        """Write a key that nobody has; False if somebody has it. Clears a few that are over."""
        over = select(IdempotencyRow.claim).where(IdempotencyRow.expires_ms <= now_ms).limit(CLEARED_WITH_EACH)
        try:
            with self._store.session() as session:
                session.execute(insert(IdempotencyRow), [record.__dict__])
        except IntegrityError:
            return False
        with self._store.session() as session:
            old = session.scalars(over).all()
            if old:
                session.execute(delete(IdempotencyRow).where(IdempotencyRow.claim.in_(old)))
        return True

    def find(self, tenant_id: str, key: str) -> KeyRecord | None:
        """The key as it stands."""
        query = select(IdempotencyRow).where(IdempotencyRow.tenant_id == tenant_id, IdempotencyRow.key == key)
        with self._store.session() as session:
            row = session.scalar(query)
            if row is None:
                return None
            return KeyRecord(**{column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs})

    def take_over(self, held: str, record: KeyRecord) -> bool:
        """Replace what was claimed as `held`; False if that has changed meanwhile."""
        return self._change(held, record.__dict__)

    def answered(self, claim: str, answer: dict[str, Any], expires_ms: int) -> bool:
        """Keep the answer; False if the key is another's by now."""
        return self._change(claim, {"answer": answer, "running_until_ms": None, "expires_ms": expires_ms})

    def forget(self, claim: str) -> None:
        """Let go of a key that nothing came of."""
        with self._store.session() as session:
            session.execute(delete(IdempotencyRow).where(IdempotencyRow.claim == claim))

    def _change(self, claim: str, columns: dict[str, Any]) -> bool:
        statement = update(IdempotencyRow).where(IdempotencyRow.claim == claim).values(columns)
        with self._store.session() as session:
            return bool(session.connection().execute(statement).rowcount)

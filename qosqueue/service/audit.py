"""Who changed what? Entries are added in the transaction of the change itself, and only ever added."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from qosqueue.store.clock import now_ms
from qosqueue.store.records import AuditEntry, audit_entry_of
from qosqueue.store.session import Store
from qosqueue.store.tables import AuditRow, Json


def append(
    session: Session, *, actor: str, action: str, subject: str, before: Json | None = None, after: Json | None = None
) -> None:
    """Add an entry to the session of the change, so that both are kept or neither.

    `actor` is `cli:<unix user>`, `user:<name>` or `system:<part>`; `action` a verb with its kind, as
    `tenant.create`; `subject` an id. `before` and `after` hold what changed, never a secret.
    """
    session.add(AuditRow(at_ms=now_ms(), actor=actor, action=action, subject=subject, before=before, after=after))


class Audit:
    """Reads the trail."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(
        self, limit: int = 100, *, before_id: int | None = None, subject: str | None = None
    ) -> Sequence[AuditEntry]:
        """At most `limit` entries, newest first, older than `before_id` and about `subject` where these are given."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if before_id is not None:
            query = query.where(AuditRow.id < before_id)
        if subject is not None:
            query = query.where(AuditRow.subject == subject)
        with self._store.session() as session:
            return [audit_entry_of(row) for row in session.scalars(query)]

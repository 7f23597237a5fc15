"""Which logins of the admin pages have ended? Their beginnings and ends stand in the audit log."""

from __future__ import annotations

import hashlib

from sqlalchemy import select

from qosqueue.service import audit
from qosqueue.store.session import Store
from qosqueue.store.tables import AuditRow

BEGAN, ENDED = "session.begin", "session.end"


class LoginSessions:
    """Sessions by their random id, of which only a hash is kept. Methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, sid: str, *, actor: str) -> None:
        """Write down that the session began."""
        self._write(BEGAN, sid, actor)

    def end(self, sid: str, *, actor: str) -> None:
        """Write down that it ended: every process knows it from now on."""
        self._write(ENDED, sid, actor)

    def has_ended(self, sid: str, since_ms: int) -> bool:
        """Whether it ended at `since_ms` (ms since the epoch) or later."""
        ended = (
            select(AuditRow.id)
            .where(AuditRow.at_ms >= since_ms, AuditRow.action == ENDED, AuditRow.subject == _subject(sid))
            .limit(1)
        )
        with self._store.session() as sql:
            return sql.execute(ended).first() is not None

    def _write(self, action: str, sid: str, actor: str) -> None:
        with self._store.session() as sql:
            audit.append(sql, actor=actor, action=action, subject=_subject(sid))


def _subject(sid: str) -> str:
    # Hashed: whoever may read the audit log must not be able to take a session over.
    return "session:" + hashlib.sha256(sid.encode()).hexdigest()[:32]

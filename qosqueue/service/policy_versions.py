"""Who changed the policy, when, why, and to what? Each change leaves a version of the whole, in its own transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from qosqueue.errors import InvalidField, NotFound
from qosqueue.service.fields import may_be_recorded
from qosqueue.store.clock import now_ms
from qosqueue.store.policy_document import policy_document
from qosqueue.store.records import PolicyVersion, policy_version_of
from qosqueue.store.session import Store
from qosqueue.store.tables import Json, PolicyVersionRow, TierRow

# Older versions keep who, when and why; with thousands of tenants a document has megabytes.
KEEP_DOCUMENTS = 200
WHY_AT_MOST = 500
# Of a version: what a column of the record holds.
LARGEST_NUMBER = 2**31 - 1
PAGE, COMMAND, FILE = "page", "command", "file"
BEFORE_ANY = "as it was before the first version"


def source_of(actor: str) -> str:
    """Where a change comes from if not from a file: people in the pages are `user:NAME`."""
    return PAGE if actor.startswith("user:") else COMMAND


def take_turn(session: Session) -> None:
    """Wait until nobody else changes the policy or what was learned, and keep others waiting until the session ends."""
    session.execute(select(TierRow.name).order_by(TierRow.name).with_for_update(key_share=True)).all()


@contextmanager
def policy_change(store: Store, *, actor: str, why: str, source: str) -> Iterator[Session]:
    """A session for one change of the policy, which becomes a version if the block changed anything.

    Whoever changes the policy takes its turn here: so sums and references that were looked at stay true, and versions
    follow each other. Raises StoreUnavailable, and InvalidField for a reason that is no line of text.
    """
    with store.change() as session:
        take_turn(session)
        last = session.scalar(select(func.max(PolicyVersionRow.number)))
        if last is None:
            last = _add(session, 0, policy_document(session), actor="system:record", why=BEFORE_ANY, source=COMMAND)
        before = session.get_one(PolicyVersionRow, last).document
        yield session
        session.flush()
        after = policy_document(session)
        if after != before:
            if not may_be_recorded(why) or len(why) > WHY_AT_MOST:
                raise InvalidField("why", f"one line of at most {WHY_AT_MOST} characters", why)
            _add(session, last, after, actor=actor, why=why, source=source)
            too_old = PolicyVersionRow.number <= last + 1 - KEEP_DOCUMENTS
            has_one = PolicyVersionRow.document.is_not(None)
            session.execute(update(PolicyVersionRow).where(too_old, has_one).values(document=None))


def _add(session: Session, last: int, document: Json, *, actor: str, why: str, source: str) -> int:
    session.add(
        PolicyVersionRow(number=last + 1, at_ms=now_ms(), actor=actor, why=why, source=source, document=document)
    )
    session.flush()
    return last + 1


class PolicyVersions:
    """Reads the versions. All methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, limit: int = 100) -> Sequence[PolicyVersion]:
        """At most so many, the newest first, without their documents."""
        columns = [column for column in PolicyVersionRow.__table__.columns if column.name != "document"]
        query = select(*columns).order_by(PolicyVersionRow.number.desc()).limit(limit)
        with self._store.session() as session:
            return [PolicyVersion(**row, document=None) for row in session.execute(query).mappings()]

    def get(self, number: int) -> PolicyVersion:
        """One version; raises NotFound."""
        with self._store.session() as session:
            row = session.get(PolicyVersionRow, number)
            if row is None:
                raise NotFound(f"no policy version {number}")
            return policy_version_of(row)

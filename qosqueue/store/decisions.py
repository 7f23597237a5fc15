"""What was decided about a request, and when? A few rows a request, written with the move that they tell of.

They go with the row of their request; who wants to know more than these asks `qosqueue job explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, String, bindparam, func, insert, select
from sqlalchemy.orm import Session

from qosqueue.store.session import Store
from qosqueue.store.tables import DecisionRow

MOST = 32
"""So many are kept of one request, the first ones: a job that is replayed for ever fills no database."""


class DecisionKind(StrEnum):
    """What was decided.

    `admitted`: the profile and what the request was judged by; `dispatched`: an attempt began, on which replica, and
    what it had met until then; `lease_lost`, `queued_again`: it waits once more; `reranked`; `fell_back`, `degraded`,
    `retried`: another road was taken.
    """

    ADMITTED = "admitted"
    DISPATCHED = "dispatched"
    LEASE_LOST = "lease_lost"
    QUEUED_AGAIN = "queued_again"
    RERANKED = "reranked"
    FELL_BACK = "fell_back"
    DEGRADED = "degraded"
    RETRIED = "retried"


# Made once: to put a statement together takes longer than to run it.
INSERT = insert(DecisionRow)
_KNOWN = func.coalesce(func.max(DecisionRow.number), 0)
ONE_MORE = insert(DecisionRow).from_select(
    ["request_id", "number", "at_ms", "kind", "facts"],
    select(
        bindparam("of", type_=String),
        _KNOWN + 1,
        bindparam("at_ms", type_=BigInteger),
        bindparam("kind", type_=String),
        bindparam("facts", type_=DecisionRow.facts.type),
    )
    .where(DecisionRow.request_id == bindparam("of", type_=String))
    .having(_KNOWN < MOST),
)


@dataclass(frozen=True)
class Decision:
    """One decision: its kind, when (ms since the epoch), and the facts that it went by, which can be written as
    JSON."""

    kind: DecisionKind
    at_ms: int
    facts: dict[str, Any]


def append(session: Session, request_ids: Sequence[str], decision: Decision) -> None:
    """Keep one more decision about requests whose rows this transaction has just changed, while there are few of
    each."""
    told = {"at_ms": decision.at_ms, "kind": decision.kind.value, "facts": decision.facts}
    # On the connection: the session would look for objects to keep up to date.
    session.connection().execute(ONE_MORE, [told | {"of": request_id} for request_id in request_ids])


def insert_all(session: Session, decisions: Mapping[str, Iterable[Decision]]) -> None:
    """Keep the decisions about requests whose rows this transaction inserts."""
    # Written out: asdict copies all facts, and this is done for every request.
    rows = [
        {
            "request_id": request_id,
            "number": number,
            "at_ms": decision.at_ms,
            "kind": decision.kind.value,
            "facts": decision.facts,
        }
        for request_id, each in decisions.items()
        for number, decision in enumerate(each, 1)
        if number <= MOST
    ]
    if rows:
        session.connection().execute(INSERT, rows)


class Decisions:
    """Reads what was kept. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, request_id: str) -> list[Decision]:
        """Everything about one request, the oldest first."""
        query = select(DecisionRow).where(DecisionRow.request_id == request_id).order_by(DecisionRow.number)
        with self._store.session() as session:
            return [Decision(DecisionKind(row.kind), row.at_ms, row.facts) for row in session.scalars(query)]

    def keep(self, request_id: str, decision: Decision) -> None:
        """Keep one more decision about a request that is on record."""
        with self._store.session() as session:
            append(session, [request_id], decision)

"""Who used how much of which model on which day? One row for each, added to by the transaction that ends a request.

A request ends once (its move to a final status is fenced and made once, its row is inserted once), so it is counted
once, whatever was retried, lost or cancelled before. What was counted is on its row too: the sums are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.orm import Session

from qosqueue.store.session import Store
from qosqueue.store.tables import UsageRow

FIGURES = ("requests", "prompt_tokens", "completion_tokens", "gpu_ms")


@dataclass(frozen=True)
class Usage:
    """What a tenant used of a model on a day (UTC, `2026-01-31`): requests that were served, tokens, and for how many
    ms they held a slot."""

    day: str
    tenant_id: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    gpu_ms: int


def charge(session: Session, usages: Iterable[Usage]) -> None:
    """Add to what was used, in the transaction that ends these requests."""
    sums: dict[tuple[str, str, str], Counter[str]] = {}
    for usage in usages:
        figures = {name: getattr(usage, name) for name in FIGURES}
        sums.setdefault((usage.day, usage.tenant_id, usage.model), Counter()).update(figures)
    connection = session.connection()
    insert = _insert(connection.dialect.name)
    # In one order everywhere: two transactions that add to the same rows wait for each other, never both.
    for day, tenant_id, model in sorted(sums):
        added = {name: sums[day, tenant_id, model][name] for name in FIGURES}
        row = {"day": day, "tenant_id": tenant_id, "model": model, **added}
        sum_up = {name: getattr(UsageRow, name) + value for name, value in added.items()}
        added_up = insert(UsageRow).values(row)
        connection.execute(added_up.on_conflict_do_update(index_elements=["day", "tenant_id", "model"], set_=sum_up))


def _insert(dialect: str) -> Callable[[type[UsageRow]], Any]:
    """The `insert` of a dialect, which alone knows ON CONFLICT.

    To import that of PostgreSQL takes a tenth of a process's start: only where it is used.
    """
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql
    return insert_sqlite


def day_of(at_ms: int) -> str:
    """The day, in UTC, of an instant (ms since the epoch)."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()


class UsageRecord:
    """Reads what was used. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, *, since: str = "", until: str = "", tenant_id: str | None = None) -> list[Usage]:
        """By day, tenant and model, from the first day to the last ('': without a bound), of one tenant or of all."""
        query = select(UsageRow).order_by(UsageRow.day, UsageRow.tenant_id, UsageRow.model)
        if since:
            query = query.where(UsageRow.day >= since)
        if until:
            query = query.where(UsageRow.day <= until)
        if tenant_id is not None:
            query = query.where(UsageRow.tenant_id == tenant_id)
        with self._store.session() as session:
            return [
                Usage(row.day, row.tenant_id, row.model, *(getattr(row, name) for name in FIGURES))
                for row in session.scalars(query)
            ]

"""What do finished requests teach of the start budgets of their scenarios? (The rule: policy/scenario.py.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.scenario import bounds, next_budget_ms
from qosqueue.policy.terms import TaskType, Tier
from qosqueue.service.policy_versions import take_turn
from qosqueue.store.clock import now_ms
from qosqueue.store.session import Store
from qosqueue.store.tables import JobRow, ModelRow, ScenarioRow, TenantRow

AT_ONCE = 1_000
# Synchronous requests are recorded a moment after they ended: what is younger may not be there yet.
SETTLED_MS = 2_000
# How far the first run looks back.
FIRST_LOOK_MS = 3_600_000


class Learning:
    """Keeps the learned budgets. Each request teaches once, whichever process runs this; raises StoreUnavailable."""

    def __init__(self, store: Store, *, clock_ms: Callable[[], int] = now_ms) -> None:
        self._store = store
        self._clock_ms = clock_ms

    def learn(self) -> list[str]:
        """Learn from what has ended since the last run; the scenarios whose budget changed."""
        with self._store.session() as session:
            if not self._finished(session):
                return []
        with self._store.change() as session:
            # Whoever else learns waits here, and finds these requests learned from.
            take_turn(session)
            taught = [_taught(session, request) for request in self._finished(session)]
        return sorted({scenario for scenario in taught if scenario is not None})

    def _finished(self, session: Session) -> Sequence[Any]:
        until_ms = self._clock_ms() - SETTLED_MS
        seen_ms = session.scalar(select(func.max(ScenarioRow.seen_ms))) or until_ms - FIRST_LOOK_MS
        query = (
            select(
                JobRow.tenant_id, JobRow.model, JobRow.task_type, JobRow.finished_ms, TenantRow.tier,
                (JobRow.first_token_ms - JobRow.created_ms).label("began_ms"),
            )
            .join(TenantRow, TenantRow.id == JobRow.tenant_id)
            .join(ModelRow, ModelRow.name == JobRow.model)
            .where(
                JobRow.finished_ms > seen_ms,
                JobRow.finished_ms <= until_ms,
                JobRow.status == JobStatus.SUCCEEDED,
                JobRow.first_token_ms.is_not(None),
            )
            .order_by(JobRow.finished_ms)
            .limit(AT_ONCE)
        )  # fmt: skip
        return session.execute(query).all()


def _taught(session: Session, request: Any) -> str | None:
    """Let one request teach its scenario; the scenario if its budget changed."""
    place = (request.tenant_id, request.model, request.task_type)
    row = session.get(ScenarioRow, place)
    if row is None:
        row = ScenarioRow(tenant_id=place[0], model=place[1], task_type=place[2], observed=0, seen_ms=0)
        session.add(row)
        session.flush()
    default_ms = DEFAULT_BUDGET_MS[TaskType(request.task_type)][Tier(request.tier)]
    before_ms = row.budget_ms
    within = bounds(default_ms, row.lower_ms, row.upper_ms)
    row.budget_ms = next_budget_ms(default_ms if before_ms is None else before_ms, max(0, request.began_ms), within)
    row.observed += 1
    row.seen_ms = request.finished_ms
    return None if row.budget_ms == before_ms else "/".join(place)

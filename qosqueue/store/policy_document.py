"""What does the record hold of the policy, as one document? (What is in it: policy/document.py.)"""

from __future__ import annotations

from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from qosqueue.policy.document import Document
from qosqueue.store.tables import Base, ModelRow, OverrideRow, ScenarioRow, TenantRow

# What of a row is no policy: its names, when it was changed, and what was learned.
NO_POLICY = {
    TenantRow: ("name", "created_ms", "updated_ms"),
    ModelRow: ("name", "created_ms"),
    OverrideRow: ("scope", "tenant_id", "updated_ms"),
    ScenarioRow: ("tenant_id", "budget_ms", "observed", "seen_ms"),
}
SETTABLE = {
    row: tuple(column.name for column in row.__table__.columns if column.name not in without)
    for row, without in NO_POLICY.items()
}


def policy_document(session: Session) -> Document:
    """The policy as it stands in a transaction. Before sources were noted, all came from commands or pages."""
    tenants = list(session.scalars(select(TenantRow).order_by(TenantRow.name)))
    names = {row.id: row.name for row in tenants}
    models = session.scalars(select(ModelRow).order_by(ModelRow.name))
    overrides = session.scalars(select(OverrideRow).order_by(OverrideRow.scope))
    bounded = or_(ScenarioRow.lower_ms.is_not(None), ScenarioRow.upper_ms.is_not(None))
    scenarios = session.scalars(
        select(ScenarioRow).where(bounded).order_by(ScenarioRow.tenant_id, ScenarioRow.model, ScenarioRow.task_type)
    )
    return {
        "tenants": {row.name: _entry(row) for row in tenants},
        "models": {row.name: _entry(row) for row in models},
        "overrides": [_about(row, names) | _entry(row) for row in overrides],
        "scenarios": [_about(row, names) | _entry(row) for row in scenarios],
    }


def _entry(row: Base) -> dict[str, Any]:
    set_values = {name: value for name in SETTABLE[type(row)] if (value := getattr(row, name)) is not None}
    return {"source": None} | set_values


def _about(row: OverrideRow | ScenarioRow, names: dict[str, str]) -> dict[str, Any]:
    return {} if row.tenant_id is None else {"tenant": names[row.tenant_id]}

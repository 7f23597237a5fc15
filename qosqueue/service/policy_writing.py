"""How does a whole policy get into the rows of the record? Only what differs is touched, and each row is audited."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from qosqueue.errors import Conflict
from qosqueue.policy.document import Document, Entry
from qosqueue.service import audit
from qosqueue.store.clock import now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.policy_document import SETTABLE
from qosqueue.store.tables import Base, ModelRow, OverrideRow, ScenarioRow, TenantRow


def write_policy(session: Session, before: Document, after: Document, *, actor: str) -> None:
    """Make the record, which holds `before`, hold `after`; both are sound. Raises Conflict for a name that is taken."""
    # Flushed here alone, where a name that is taken has its answer.
    with session.no_autoflush:
        for name, entry in after["models"].items():
            _write_model(session, name, entry, actor)
        for name, entry in after["tenants"].items():
            _write_tenant(session, name, entry, actor)
        _flush(session)
        ids = {row.name: row.id for row in session.scalars(select(TenantRow))}
        _write_overrides(session, after["overrides"], ids, actor)
        _write_scenarios(session, after["scenarios"], ids, actor)
        _flush(session)


def scope_of(tenant_id: str | None, model: str | None, task_type: str | None) -> str:
    """The key of an override: its three parts, a star for each that it does not name."""
    return f"{tenant_id or '*'}/{task_type or '*'}/{model or '*'}"


def _write_model(session: Session, name: str, entry: Entry, actor: str) -> None:
    row = session.get(ModelRow, name)
    if row is None:
        row = ModelRow(name=name, created_ms=now_ms())
        session.add(row)
    _set(session, row, entry, actor, "model", name)


def _write_tenant(session: Session, name: str, entry: Entry, actor: str) -> None:
    row = session.get(TenantRow, entry["id"]) if "id" in entry else None
    if row is None:
        row = TenantRow(id=entry.get("id") or new_id("ten"), name=name, created_ms=now_ms(), updated_ms=now_ms())
        session.add(row)
    changed = _set(session, row, {**entry, "name": name, "id": row.id}, actor, "tenant", row.id)
    if changed:
        row.updated_ms = now_ms()


def _write_overrides(session: Session, wanted: list[Entry], ids: dict[str, str], actor: str) -> None:
    known = {row.scope: row for row in session.scalars(select(OverrideRow))}
    for entry in wanted:
        tenant_id = ids[entry["tenant"]] if "tenant" in entry else None
        scope = scope_of(tenant_id, entry.get("model"), entry.get("task_type"))
        row = known.pop(scope, None)
        if row is None:
            row = OverrideRow(scope=scope, tenant_id=tenant_id, updated_ms=now_ms())
            session.add(row)
        if _set(session, row, entry, actor, "override", scope):
            row.updated_ms = now_ms()
    for scope, row in known.items():
        audit.append(session, actor=actor, action="override.clear", subject=scope, before=_values(row))
        session.delete(row)


def _write_scenarios(session: Session, wanted: list[Entry], ids: dict[str, str], actor: str) -> None:
    """Set the bounds; what was learned stays, and goes on within them."""
    rows = {(row.tenant_id, row.model, row.task_type): row for row in session.scalars(select(ScenarioRow))}
    unbounded = {place for place, row in rows.items() if (row.lower_ms, row.upper_ms) != (None, None)}
    for entry in wanted:
        place = ids[entry["tenant"]], entry["model"], entry["task_type"]
        unbounded.discard(place)
        row = rows.get(place)
        if row is None:
            row = ScenarioRow(tenant_id=place[0], observed=0, seen_ms=0)
            session.add(row)
        _set(session, row, entry, actor, "scenario", scope_of(place[0], place[1], place[2]))
    for place in unbounded:
        row = rows[place]
        audit.append(session, actor=actor, action="scenario.clear", subject=scope_of(*place), before=_values(row))
        row.lower_ms = row.upper_ms = row.source = None


def _set(session: Session, row: Base, entry: Entry, actor: str, kind: str, subject: str) -> bool:
    """Give a row the values of its entry; audits and tells whether anything but the source is new."""
    fields = (*SETTABLE[type(row)], *(["name"] if isinstance(row, TenantRow) else []))
    is_new = row in session.new
    after = {name: entry.get(name) for name in fields if is_new or getattr(row, name) != entry.get(name)}
    before = {name: getattr(row, name) for name in after}
    for name, value in after.items():
        setattr(row, name, value)
    told = {name: value for name, value in after.items() if name != "source"}
    if told and is_new:
        verb = {"model": "add", "tenant": "create"}.get(kind, "set")
        audit.append(session, actor=actor, action=f"{kind}.{verb}", subject=subject, after=told)
    elif told:
        verb = "update" if kind in ("model", "tenant") else "set"
        old = {name: before[name] for name in told}
        audit.append(session, actor=actor, action=f"{kind}.{verb}", subject=subject, before=old, after=told)
    return bool(told)


def _values(row: Base) -> dict[str, Any]:
    return {name: value for name in SETTABLE[type(row)] if (value := getattr(row, name)) is not None}


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        # References were looked at before; two tenants may want one name when an old version comes back.
        raise Conflict("name: a tenant of that name was made meanwhile: rename it first") from error

"""Which models may be asked for, and what does each need?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.policy.terms import WeightClass
from qosqueue.policy.weight import WeightBasis, weigh
from qosqueue.service import audit
from qosqueue.service.fields import (
    ENGINE_NAME,
    MODEL_NAME,
    PREWARM_RULE,
    checked_choice,
    checked_flag,
    checked_name,
    checked_whole,
    one_of,
)
from qosqueue.service.policy_versions import policy_change, source_of
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue.store.last_known import KEEP_MS, LastKnown
from qosqueue.store.records import Model, model_of
from qosqueue.store.session import Store
from qosqueue.store.tables import ModelRow, OverrideRow

RANGES = {"memory_bytes": (0, 2**50), "context_tokens": (1, 10**8), "slots": (1, 4_096)}
OPTIONAL_RANGES = {"parameters": (1, 10**15), "measured_ms": (0, 3_600_000)}
# What decides a weight class that nobody gave.
WEIGHED_BY = ("memory_bytes", "parameters", "measured_ms")
CLEARABLE = (*OPTIONAL_RANGES, "weight_class", "fallback_model", "prewarm")
CHANGEABLE = (*RANGES, "options", "enabled", *CLEARABLE)

# Raises if no engine takes the model. Engines belong to the workers, so whoever calls brings it.
Approve = Callable[[Model], None]


class Catalog:
    """The models. Every change leaves an audit entry in the same transaction; all methods raise StoreUnavailable."""

    def __init__(
        self, store: Store, *, keep_ms: int = KEEP_MS, monotonic_clock_ms: Callable[[], int] = monotonic_ms
    ) -> None:
        self._store = store
        self._models: LastKnown[str, Model] = LastKnown(
            self._model_named, monotonic_ms=monotonic_clock_ms, keep_ms=keep_ms
        )

    def add_model(
        self,
        name: str,
        engine: str,
        *,
        actor: str,
        memory_bytes: int,
        context_tokens: int,
        slots: int,
        why: str | None = None,
        approve: Approve | None = None,
        **given: object,
    ) -> Model:
        """Add a model with what else is `given` of CHANGEABLE; without a weight class it gets the one that it weighs.

        `memory_bytes` 0 is not known, `context_tokens` is the longest prompt and answer together, `slots` the
        concurrency of one replica. Raises InvalidField, Conflict if the name is taken, and what `approve` raises.
        """
        needed = {"memory_bytes": memory_bytes, "context_tokens": context_tokens, "slots": slots}
        blank: dict[str, object] = {"options": {}, "enabled": True, **dict.fromkeys(CLEARABLE)}
        values = {field: checked_field(field, value) for field, value in {**needed, **blank, **given}.items()}
        values = {
            "name": checked_name("name", name, MODEL_NAME),
            "engine": checked_name("engine", engine, ENGINE_NAME),
            **values,
            **weighed(values),
        }
        made_ms = now_ms()
        if approve is not None:
            approve(Model(**(values | {"weight_class": WeightClass(values["weight_class"])}), created_ms=made_ms))
        source, why = source_of(actor), why or f"model {name} added"
        with policy_change(self._store, actor=actor, why=why, source=source) as session:
            _hold_fallback(session, name, values["fallback_model"])
            row = ModelRow(created_ms=made_ms, source=source, **values)
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"name: a model named {name!r} exists already") from error
            audit.append(session, actor=actor, action="model.add", subject=name, after=values)
            return model_of(row)

    def update_model(
        self, name: str, *, actor: str, why: str | None = None, approve: Approve | None = None, **changes: object
    ) -> Model:
        """Change a model: what is given of CHANGEABLE, the options all at once.

        A weight class that nobody gave follows what decides it; None takes a given one away. `enabled` counts within
        a second everywhere, the rest from the next start of a worker. Taking a model out of use needs no approval.
        Raises InvalidField, NotFound, and what `approve` raises.
        """
        values = {field: checked_field(field, value) for field, value in changes.items()}
        if approve is not None and values != {"enabled": False}:
            # Before the transaction: it may take seconds, and nobody else could write.
            with self._store.session() as session:
                row = _model_row(session, name)
                approve(replace(model_of(row), **_completed(row, values)))
        source, why = source_of(actor), why or f"model {name}: {', '.join(changes)}"
        with policy_change(self._store, actor=actor, why=why, source=source) as session:
            row = _model_row(session, name, for_update=True)
            if "fallback_model" in values:
                _hold_fallback(session, name, values["fallback_model"])
            values = _completed(row, values)
            before = {field: getattr(row, field) for field in values}
            after = {field: value for field, value in values.items() if value != before[field]}
            if after:
                for field, value in (after | {"source": source}).items():
                    setattr(row, field, value)
                audit.append(
                    session,
                    actor=actor,
                    action="model.update",
                    subject=name,
                    before={field: before[field] for field in after},
                    after=after,
                )
            changed = model_of(row)
        self._models.forget()
        return changed

    def remove_model(self, name: str, *, actor: str) -> Model:
        """Take a model out of the catalog; jobs that name it stay on record.

        Raises NotFound, and Conflict while another model falls back to it or an override names it.
        """
        source = source_of(actor)
        with policy_change(self._store, actor=actor, why=f"model {name} removed", source=source) as session:
            row = _model_row(session, name, for_update=True)
            removed = model_of(row)
            _hold_unnamed(session, name)
            session.delete(row)
            before = {"engine": removed.engine} | {field: getattr(removed, field) for field in CHANGEABLE}
            audit.append(session, actor=actor, action="model.remove", subject=name, before=before)
        self._models.forget()
        return removed

    def list_models(self) -> list[Model]:
        """All models by name, disabled ones too."""
        with self._store.session() as session:
            return [model_of(row) for row in session.scalars(select(ModelRow).order_by(ModelRow.name))]

    def keep_engine(self, wanted: Model) -> None:
        """Approve a model for those who do not know the workers' engines: raises Conflict if its engine or options are
        not those on record."""
        known = next((model for model in self.list_models() if model.name == wanted.name), None)
        if known is None or (known.engine, known.options) != (wanted.engine, wanted.options):
            raise Conflict(f"models.{wanted.name}: engine and options are set by `qosqueue model` or `qosqueue policy`")

    def get_model(self, name: str) -> Model:
        """The model of that name, at most a second old, disabled or not; raises NotFound.

        With the record away the last known answer serves; StoreUnavailable is raised if there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"no model {name!r}")
        return model

    def forget(self) -> None:
        """Ask the record again: this process has changed the policy by other means."""
        self._models.forget()

    def _model_named(self, name: str) -> Model | None:
        # What can be no name is not asked for: PostgreSQL refuses a text that holds a NUL.
        if MODEL_NAME.pattern.fullmatch(name) is None:
            return None
        with self._store.session() as session:
            row = session.get(ModelRow, name)
            return None if row is None else model_of(row)


def weighed(values: dict[str, Any]) -> dict[str, str]:
    """Weight class and basis: the class that was given, else what the model weighs."""
    if values.get("weight_class") is not None:
        return {"weight_class": values["weight_class"], "weight_basis": WeightBasis.GIVEN.value}
    found = weigh(values["memory_bytes"], values.get("parameters"), values.get("measured_ms"))
    return {"weight_class": found.weight_class.value, "weight_basis": found.basis.value}


def _completed(row: ModelRow, values: dict[str, Any]) -> dict[str, Any]:
    """The changes of a model, with the weight class to which they lead."""
    given = row.weight_class if row.weight_basis == WeightBasis.GIVEN else None
    return values | weighed({field: getattr(row, field) for field in WEIGHED_BY} | {"weight_class": given} | values)


def _hold_fallback(session: Session, name: str, fallback: str | None) -> None:
    """Refuse a fallback model that is not there, or the model itself."""
    if fallback is not None and (fallback == name or session.get(ModelRow, fallback) is None):
        raise InvalidField("fallback_model", "another model of the catalog", fallback)


def _hold_unnamed(session: Session, name: str) -> None:
    """Refuse to remove a model that the policy names elsewhere."""
    falls_back = session.scalar(select(ModelRow.name).where(ModelRow.fallback_model == name).limit(1))
    if falls_back is not None:
        raise Conflict(f"model {name} is the fallback of {falls_back}: change that first")
    if session.scalar(select(OverrideRow.scope).where(OverrideRow.model == name).limit(1)) is not None:
        raise Conflict(f"an override names model {name}: take that away first")


def _model_row(session: Session, name: str, *, for_update: bool = False) -> ModelRow:
    row = None
    if MODEL_NAME.pattern.fullmatch(name) is not None:
        row = session.get(ModelRow, name, with_for_update=for_update)
    if row is None:
        raise NotFound(f"no model {name!r}")
    return row


def checked_field(field: str, value: object) -> Any:
    """The value as the record keeps it; raises InvalidField."""
    if field == "enabled":
        return checked_flag(field, value)
    if field == "options":
        return _checked_options(value)
    if field in RANGES:
        return checked_whole(field, value, *RANGES[field])
    if field not in CLEARABLE:
        raise InvalidField(field, one_of(CHANGEABLE), value)
    if value is None:
        return None
    if field in OPTIONAL_RANGES:
        return checked_whole(field, value, *OPTIONAL_RANGES[field])
    if field == "weight_class":
        return checked_choice(field, value, WeightClass).value
    return checked_name(field, value, MODEL_NAME if field == "fallback_model" else PREWARM_RULE)


def _checked_options(options: object) -> dict[str, Any]:
    expected = "a JSON object"
    if not isinstance(options, dict):
        raise InvalidField("options", expected, options)
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidField("options", f"{expected} ({error})", options) from error
    return options

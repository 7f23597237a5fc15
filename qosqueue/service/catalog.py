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
from qosqueue.policy.terms import WeightClass, weight_class
from qosqueue.service import audit
from qosqueue.service.fields import (
    ENGINE_NAME,
    MODEL_NAME,
    checked_choice,
    checked_flag,
    checked_name,
    checked_whole,
    one_of,
)
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue.store.last_known import KEEP_MS, LastKnown
from qosqueue.store.records import Model, model_of
from qosqueue.store.session import Store
from qosqueue.store.tables import ModelRow

RANGES = {"memory_bytes": (0, 2**50), "context_tokens": (1, 10**8), "slots": (1, 4_096)}
CHANGEABLE = (*RANGES, "options", "enabled")

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
        weight_class: WeightClass | str | None = None,
        options: dict[str, Any] | None = None,
        enabled: bool = True,
        approve: Approve | None = None,
    ) -> Model:
        """Add a model; without a weight class it gets the one of its memory (bytes).

        `context_tokens` is the longest prompt and answer together, `slots` the concurrency of one replica.
        Raises InvalidField, Conflict if the name is taken, and what `approve` raises.
        """
        values: dict[str, Any] = {
            "name": checked_name("name", name, MODEL_NAME),
            "engine": checked_name("engine", engine, ENGINE_NAME),
            "weight_class": _weight_class(weight_class, _checked_field("memory_bytes", memory_bytes)),
            "memory_bytes": memory_bytes,
            "context_tokens": _checked_field("context_tokens", context_tokens),
            "slots": _checked_field("slots", slots),
            "options": _checked_field("options", {} if options is None else options),
            "enabled": _checked_field("enabled", enabled),
        }
        made_ms = now_ms()
        if approve is not None:
            approve(Model(**(values | {"weight_class": WeightClass(values["weight_class"])}), created_ms=made_ms))
        with self._store.change() as session:
            row = ModelRow(created_ms=made_ms, **values)
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"name: a model named {name!r} exists already") from error
            audit.append(session, actor=actor, action="model.add", subject=name, after=values)
            return model_of(row)

    def update_model(self, name: str, *, actor: str, approve: Approve | None = None, **changes: object) -> Model:
        """Change a model's memory, context, slots, options (all of them at once) or `enabled`.

        A weight class that is that of the memory follows the memory. `enabled` counts within 2 s everywhere, the
        rest from the next start of a worker. Taking a model out of use needs no approval. Raises InvalidField,
        NotFound, and what `approve` raises.
        """
        values = {field: _checked_field(field, value) for field, value in changes.items()}
        if approve is not None and values != {"enabled": False}:
            # Before the transaction: it may take seconds, and nobody else could write.
            with self._store.session() as session:
                approve(replace(model_of(_model_row(session, name)), **values))
        with self._store.change() as session:
            row = _model_row(session, name, for_update=True)
            if row.weight_class == weight_class(row.memory_bytes) and "memory_bytes" in values:
                values["weight_class"] = weight_class(values["memory_bytes"]).value
            before = {field: getattr(row, field) for field in values}
            after = {field: value for field, value in values.items() if value != before[field]}
            if after:
                for field, value in after.items():
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
        """Take a model out of the catalog; jobs that name it stay on record. Raises NotFound."""
        with self._store.change() as session:
            row = _model_row(session, name, for_update=True)
            removed = model_of(row)
            session.delete(row)
            before = {"engine": removed.engine, "weight_class": removed.weight_class.value} | {
                field: getattr(removed, field) for field in CHANGEABLE
            }
            audit.append(session, actor=actor, action="model.remove", subject=name, before=before)
        self._models.forget()
        return removed

    def list_models(self) -> list[Model]:
        """All models by name, disabled ones too."""
        with self._store.session() as session:
            return [model_of(row) for row in session.scalars(select(ModelRow).order_by(ModelRow.name))]

    def get_model(self, name: str) -> Model:
        """The model of that name, at most 2 s old, disabled or not; raises NotFound.

        With the record away the last known answer serves; StoreUnavailable is raised if there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"no model {name!r}")
        return model

    def _model_named(self, name: str) -> Model | None:
        # What can be no name is not asked for: PostgreSQL refuses a text that holds a NUL.
        if MODEL_NAME.pattern.fullmatch(name) is None:
            return None
        with self._store.session() as session:
            row = session.get(ModelRow, name)
            return None if row is None else model_of(row)


def _weight_class(given: WeightClass | str | None, memory_bytes: int) -> str:
    if given is None:
        return weight_class(memory_bytes).value
    return checked_choice("weight_class", given, WeightClass).value


def _model_row(session: Session, name: str, *, for_update: bool = False) -> ModelRow:
    row = None
    if MODEL_NAME.pattern.fullmatch(name) is not None:
        row = session.get(ModelRow, name, with_for_update=for_update)
    if row is None:
        raise NotFound(f"no model {name!r}")
    return row


def _checked_field(field: str, value: object) -> Any:
    if field == "enabled":
        return checked_flag(field, value)
    if field == "options":
        return _checked_options(value)
    if field in RANGES:
        return checked_whole(field, value, *RANGES[field])
    raise InvalidField(field, one_of(CHANGEABLE), value)


def _checked_options(options: object) -> dict[str, Any]:
    expected = "a JSON object"
    if not isinstance(options, dict):
        raise InvalidField("options", expected, options)
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidField("options", f"{expected} ({error})", options) from error
    return options

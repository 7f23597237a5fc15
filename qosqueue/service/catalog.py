"""Which models may be asked for, and what does each need?"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

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
)
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue.store.last_known import KEEP_MS, LastKnown
from qosqueue.store.records import Model, model_of
from qosqueue.store.session import Store
from qosqueue.store.tables import ModelRow

MEMORY_RANGE = (0, 2**50)
CONTEXT_RANGE = (1, 10**8)
SLOTS_RANGE = (1, 4_096)


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
    ) -> Model:
        """Add a model; without a weight class it gets the one of its memory (bytes).

        `context_tokens` is the longest prompt and answer together, `slots` the concurrency of one replica.
        Raises InvalidField, Conflict if the name is taken.
        """
        values: dict[str, Any] = {
            "name": checked_name("name", name, MODEL_NAME),
            "engine": checked_name("engine", engine, ENGINE_NAME),
            "weight_class": _weight_class(weight_class, checked_whole("memory_bytes", memory_bytes, *MEMORY_RANGE)),
            "memory_bytes": memory_bytes,
            "context_tokens": checked_whole("context_tokens", context_tokens, *CONTEXT_RANGE),
            "slots": checked_whole("slots", slots, *SLOTS_RANGE),
            "options": _checked_options({} if options is None else options),
            "enabled": checked_flag("enabled", enabled),
        }
        with self._store.change() as session:
            row = ModelRow(created_ms=now_ms(), **values)
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"name: a model named {name!r} exists already") from error
            audit.append(session, actor=actor, action="model.add", subject=name, after=values)
            return model_of(row)

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


def _checked_options(options: object) -> dict[str, Any]:
    expected = "a JSON object"
    if not isinstance(options, dict):
        raise InvalidField("options", expected, options)
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidField("options", f"{expected} ({error})", options) from error
    return options

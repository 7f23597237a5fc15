"""What must the OpenAPI document say that the library which collects it leaves out?

It knows a part of JSON Schema only: bounds become floats, and what it does not know is dropped. It has no word for a
second kind of answer, nor for which operation takes what another one made.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from flask_openapi.models import OPENAPI3_REF_TEMPLATE
from flask_openapi.openapi import OpenAPI

STREAM = "text/event-stream"
# OpenAPI 3.2's word for the events of a stream; 3.1 has none, and its readers pass over it.
_EVENTS = {
    "itemSchema": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    },
}

# What the server refuses by itself, before there is a request, with a page of its own.
_SERVERS_OWN = {
    "414": {"description": "The address is too long", "content": {"text/html": {"schema": {"type": "string"}}}}
}


@dataclass(frozen=True)
class Made:
    """Where an answer tells an id (a JSON pointer), and which operations take it under which name in their path."""

    pointer: str
    parameter: str
    takers: tuple[str, ...]


def finish(
    app: OpenAPI,
    *,
    made: Mapping[str, tuple[Made, ...]],
    streamed: Iterable[str] = (),
    forms: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The document of `app`. By operation: `made`, the ids that its answer tells; `streamed`, those that may answer
    with a stream; `forms`, the schemas of bodies that are forms."""
    document: dict[str, Any] = app.api_doc
    document["components"]["schemas"] |= _bodies(app)
    by_id = {
        operation["operationId"]: operation for methods in document["paths"].values() for operation in methods.values()
    }
    for operation in by_id.values():
        operation["responses"] |= _SERVERS_OWN
    for name in streamed:
        by_id[name]["responses"]["200"]["content"][STREAM] = _EVENTS
    for name, schema in (forms or {}).items():
        (form,) = by_id[name]["requestBody"]["content"].values()
        form["schema"] = schema
    for name, ids in made.items():
        _success(by_id[name])["links"] = {
            taker: {"operationId": taker, "parameters": {f"path.{one.parameter}": f"$response.body#{one.pointer}"}}
            for one in ids
            for taker in one.takers
        }
    return document


def _bodies(app: OpenAPI) -> dict[str, Any]:
    """Every body that a route takes, as pydantic describes it."""
    schemas: dict[str, Any] = {}
    for view in app.view_functions.values():
        body = get_type_hints(inspect.unwrap(view)).get("body")
        if body is not None:
            schema = body.model_json_schema(ref_template=OPENAPI3_REF_TEMPLATE)
            schemas |= schema.pop("$defs", {}) | {schema["title"]: schema}
    return schemas


def _success(operation: dict[str, Any]) -> dict[str, Any]:
    (status,) = (status for status in operation["responses"] if status.startswith("2"))
    answer: dict[str, Any] = operation["responses"][status]
    return answer

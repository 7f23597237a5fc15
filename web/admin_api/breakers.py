"""How do programs see breakers that are not closed, open one by hand, and reset it?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from qosqueue.service.breakers import LONGEST_S
from qosqueue.service.whole import WHOLE
from qosqueue_web.admin_api.access import actor

if TYPE_CHECKING:
    from qosqueue.wiring import Services


class BreakerPath(BaseModel):
    """Which breaker: `m:MODEL`, or `r:LENGTH OF WORKER:WORKER:MODEL` for one replica."""

    name: str


class TripBody(BaseModel):
    """For how many seconds nothing runs (null: until it is reset)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    for_s: Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": LONGEST_S}), WHOLE] | None = None


class BreakerShape(BaseModel):
    """A breaker, what it watches, its state, its score of faults, and until when it is open, if that is known."""

    name: str
    model: str
    worker: str | None
    state: str
    score: int
    until_ms: int | None


class BreakerList(BaseModel):
    """Breakers of all models, and of the replicas that are not closed and sound."""

    data: list[BreakerShape]


def add_breakers(api: APIBlueprint, services: Services) -> None:
    """Add the routes of breakers."""
    breakers = services.breakers

    @api.get("/v1/admin/breakers", operation_id="listBreakers", responses={200: BreakerList})
    def list_breakers() -> Response:
        """Breakers by name."""
        return jsonify(BreakerList(data=[BreakerShape(**asdict(view)) for view in breakers.list()]).model_dump())

    @api.post("/v1/admin/breakers/<path:name>/trip", operation_id="tripBreaker", responses={200: BreakerShape})
    def trip_breaker(path: BreakerPath, body: TripBody) -> Response:
        """Let nothing run or be admitted under it."""
        view = breakers.trip(path.name, actor=actor(), for_s=body.for_s)
        return jsonify(BreakerShape(**asdict(view)).model_dump())

    @api.post("/v1/admin/breakers/<path:name>/reset", operation_id="resetBreaker", responses={200: BreakerShape})
    def reset_breaker(path: BreakerPath) -> Response:
        """Close it, with no faults counted."""
        return jsonify(BreakerShape(**asdict(breakers.reset(path.name, actor=actor()))).model_dump())

"""How do programs see what waits, limit what runs, and deal with dead letters?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.service.limits import LONGEST_S, MOST
from qosqueue.service.purges import MOST_SLICES
from qosqueue.service.whole import WHOLE
from qosqueue_web.admin_api.access import actor
from qosqueue_web.admin_api.shapes import (
    DeadLetterList,
    DeadLetterShape,
    LaneList,
    LaneShape,
    LimitList,
    LimitShape,
    ReplicaList,
    ReplicaShape,
)

if TYPE_CHECKING:
    from qosqueue.wiring import Services

MOST_LETTERS = 1_000


class LimitPath(BaseModel):
    """Which limit: `t:TENANT`, `c:TIER`, `l:LANE`, `m:MODEL` or `p:LENGTH OF LANE:LANE:MODEL`."""

    name: str


class LimitBody(BaseModel):
    """How many attempts may run under the name, and for how many seconds (null: for good)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    most: Annotated[int, Field(json_schema_extra={"minimum": 0, "maximum": MOST}), WHOLE]
    for_s: Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": LONGEST_S}), WHOLE] | None = None


class LanePath(BaseModel):
    """Which lane of requests, as `basic.heavy`."""

    lane: str


class PurgeBody(BaseModel):
    """Why; the tenants of the requests are told, too."""

    model_config = ConfigDict(extra="forbid", strict=True)

    why: str = ""


class PurgedShape(BaseModel):
    """How many requests this call has ended, and how many of those that waited are left for the next one."""

    lane: str
    ended: int
    left: int


class LetterPath(BaseModel):
    """Which dead letter, by its task or tag."""

    task: str


class LettersQuery(BaseModel):
    """How many."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_LETTERS)] = 100


def add_queues(api: APIBlueprint, services: Services) -> None:
    """Add the routes of queues, limits, replicas and dead letters."""

    @api.get("/v1/admin/queues", operation_id="listQueues", responses={200: LaneList})
    def list_queues() -> Response:
        """Every lane now, also the empty ones."""
        lanes = [LaneShape(**asdict(lane)) for lane in services.queues.lanes()]
        return jsonify(LaneList(data=lanes).model_dump())

    @api.post("/v1/admin/queues/<lane>/purge", operation_id="purgeLane", responses={200: PurgedShape})
    def purge_lane(path: LanePath, body: PurgeBody) -> Response:
        """End what waits in a lane, the oldest first, 2,000 at most; call again while any are left."""
        slices = services.purges.purge(path.lane, actor=actor(), why=body.why)
        # The first tells only what there is.
        *_, at = islice(slices, 1 + MOST_SLICES)
        return jsonify(PurgedShape(**asdict(at)).model_dump())

    @api.get("/v1/admin/replicas", operation_id="listReplicas", responses={200: ReplicaList})
    def list_replicas() -> Response:
        """Every replica whose worker was heard of lately."""
        found = [
            ReplicaShape(
                worker=live.replica.worker,
                model=live.replica.model,
                slots=live.replica.slots,
                busy=live.replica.busy,
                gpu=live.replica.gpu,
                state=live.replica.state,
                started_ms=live.started_ms,
                seen_ms=live.seen_ms,
            )
            for live in services.queues.replicas()
        ]
        return jsonify(ReplicaList(data=found).model_dump())

    @api.get("/v1/admin/limits", operation_id="listLimits", responses={200: LimitList})
    def list_limits() -> Response:
        """The limits in force, by name."""
        limits = [LimitShape(**asdict(view)) for view in services.limits.list()]
        return jsonify(LimitList(data=limits).model_dump())

    @api.put("/v1/admin/limits/<path:name>", operation_id="setLimit", responses={200: LimitShape})
    def set_limit(path: LimitPath, body: LimitBody) -> Response:
        """Let at most so many attempts run under a name; it counts from the next pick on."""
        with _faults_of_limits():
            view = services.limits.set(path.name, body.most, actor=actor(), for_s=body.for_s)
        return jsonify(LimitShape(**asdict(view)).model_dump())

    @api.delete("/v1/admin/limits/<path:name>", operation_id="liftLimit", responses={204: None})
    def lift_limit(path: LimitPath) -> Response:
        """Take a limit away."""
        with _faults_of_limits():
            services.limits.lift(path.name, actor=actor())
        return Response(status=204)

    @api.get("/v1/admin/dead-letters", operation_id="listDeadLetters", responses={200: DeadLetterList})
    def list_dead_letters(query: LettersQuery) -> Response:
        """What was given up, and why; the last to die first."""
        found = services.dead_letters.list(query.limit)
        letters = [
            DeadLetterShape(**{name: getattr(one, name) for name in DeadLetterShape.model_fields}) for one in found
        ]
        return jsonify(DeadLetterList(data=letters).model_dump())

    @api.post("/v1/admin/dead-letters/<task>/replay", operation_id="replayDeadLetter", responses={204: None})
    def replay_dead_letter(path: LetterPath) -> Response:
        """Queue a dead letter again, with all its attempts and its time to live."""
        services.dead_letters.replay(path.task, actor=actor())
        return Response(status=204)

    @api.delete("/v1/admin/dead-letters/<task>", operation_id="discardDeadLetter", responses={204: None})
    def discard_dead_letter(path: LetterPath) -> Response:
        """Forget a dead letter and its payload for good."""
        services.dead_letters.discard(path.task, actor=actor())
        return Response(status=204)


@contextmanager
def _faults_of_limits() -> Iterator[None]:
    """A name that no limit can have is an address that is not there; a tenant of the record has a cap there already."""
    try:
        yield
    except InvalidField as fault:
        if fault.field == "name":
            raise NotFound(str(fault)) from fault
        if fault.field == "for_s" and fault.got is None:
            raise Conflict(str(fault)) from fault
        raise

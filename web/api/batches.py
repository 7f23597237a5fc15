"""How are batches handed in, followed, listed and cancelled?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flask import Response, abort, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.service.bulk_bodies import BatchBody
from qosqueue.store.batch_record import Batch
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.bulk_answers import BatchAnswer, BatchList, batch_answer
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.queries import BatchesQuery, BatchPath

if TYPE_CHECKING:
    from qosqueue.wiring import Services

_UNKNOWN = Refusal(404, "batch_not_found", "there is no such batch", "batch_id")


def add_batches(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/batches."""

    @api.post("/v1/batches", operation_id="createBatch", responses={200: BatchAnswer})
    def create_batch(body: BatchBody) -> Response:
        """Run every request of an uploaded file within the completion window."""
        after = body.output_expires_after
        batch = services.batches.create(
            current_tenant().id,
            endpoint=body.endpoint,
            completion_window=body.completion_window,
            input_file_id=body.input_file_id,
            metadata=body.metadata,
            output_ttl_ms=None if after is None else after.seconds * 1000,
        )
        return error_response(batch) if isinstance(batch, Refusal) else _answer(batch)

    @api.get("/v1/batches", operation_id="listBatches", responses={200: BatchList})
    def list_batches(query: BatchesQuery) -> Response:
        """List the tenant's batches, newest first."""
        try:
            # One more than asked for tells whether there is a next page.
            found = services.batches.list(current_tenant().id, query.limit + 1, query.after)
        except NotFound:
            return error_response(replace(_UNKNOWN, param="after"))
        page = [batch_answer(batch) for batch in found[: query.limit]]
        return jsonify(BatchList.of(page, has_more=len(found) > query.limit).model_dump())

    @api.get("/v1/batches/<batch_id>", operation_id="retrieveBatch", responses={200: BatchAnswer})
    def retrieve_batch(path: BatchPath) -> Response:
        """One batch."""
        try:
            return _answer(services.batches.get(current_tenant().id, path.batch_id))
        except NotFound:
            abort(error_response(_UNKNOWN))

    @api.post("/v1/batches/<batch_id>/cancel", operation_id="cancelBatch", responses={200: BatchAnswer})
    def cancel_batch(path: BatchPath) -> Response:
        """Stop what has not begun; a batch that has ended, or is about to, stays as it is."""
        try:
            return _answer(services.batches.cancel(current_tenant().id, path.batch_id))
        except NotFound:
            abort(error_response(_UNKNOWN))


def _answer(batch: Batch) -> Response:
    return jsonify(batch_answer(batch).model_dump())

"""How does a client get a response: at once, token by token, or later from the background?

A response is a view of a job's row. In the background it is that job from the start; at once it is a synchronous
request whose row is written before its last word is said, so that it is found from then on.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from flask import Response, jsonify, request
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import NotFound
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import ServiceTier, TaskType
from qosqueue.service.answers import RESPONSES, public_id, response
from qosqueue.service.body_faults import invalid_value
from qosqueue.service.endpoints import job_request, too_long_for
from qosqueue.service.online import OnlineCall
from qosqueue.service.response_body import ResponseBody
from qosqueue.store.records import Job
from qosqueue_web.api.answering import MakeFrame, respond
from qosqueue_web.api.answers import ResponseAnswer
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import error_response, rate_headers
from qosqueue_web.api.headers import job_headers, latency_budget_ms
from qosqueue_web.api.hints import hints_of
from qosqueue_web.api.idempotent import made_id
from qosqueue_web.api.queries import JobPath
from qosqueue_web.api.response_stream import ResponseFrame

if TYPE_CHECKING:
    from qosqueue.wiring import Services

_RESPONSE_ID = re.compile(r"resp_[0-9a-f]{24}")
_UNKNOWN = Refusal(404, "response_not_found", "there is no such response", "id")
# What has ended well says itself whether it is complete.
STATUS = {
    JobStatus.ACCEPTED: "queued",
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.FAILED: "failed",
    JobStatus.EXPIRED: "failed",
    JobStatus.REJECTED: "failed",
    JobStatus.CANCELLED: "cancelled",
}


def add_responses(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/responses."""

    @api.post(RESPONSES, operation_id="createResponse", responses={200: ResponseAnswer})
    def create_response(body: ResponseBody) -> Response:
        """Answer a text or messages, at once or in the `background`."""
        if not body.background:
            return respond(services, body, _frame(body))
        if body.stream:
            return error_response(invalid_value("stream", "a response in the background is polled, not streamed"))
        refusal = too_long_for(services.catalog, body)
        if refusal is not None:
            return error_response(refusal)
        budget_ms = latency_budget_ms(body.latency_budget_ms)
        hints = hints_of(request.environ)
        asked = job_request(
            body,
            TaskType.ASYNC,
            latency_budget_ms=budget_ms,
            details=hints.noted(),
            traceparent=hints.traceparent,
            **made_id(),
        )
        job = services.jobs.submit(current_tenant(), asked)
        if isinstance(job, Refusal):
            return error_response(job)
        response = _answer(job)
        response.headers.extend(rate_headers(job.rates))
        return response

    @api.get(f"{RESPONSES}/<id>", operation_id="retrieveResponse", responses={200: ResponseAnswer})
    def retrieve_response(path: JobPath) -> Response:
        """One response as it stands."""
        try:
            return _answer(_job_of(services, path.id))
        except NotFound:
            return error_response(_UNKNOWN)

    @api.post(f"{RESPONSES}/<id>/cancel", operation_id="cancelResponse", responses={200: ResponseAnswer})
    def cancel_response(path: JobPath) -> Response:
        """Cancel a response; one that has ended stays as it ended."""
        try:
            job = _job_of(services, path.id)
            return _answer(services.jobs.cancel(job.tenant_id, job.id))
        except NotFound:
            return error_response(_UNKNOWN)


def _job_of(services: Services, response_id: str) -> Job:
    """The tenant's job that a response's id means; raises NotFound, also for a job that is no response."""
    if not _RESPONSE_ID.fullmatch(response_id):
        raise NotFound("no such response")
    job = services.jobs.get(current_tenant().id, response_id.replace("resp_", "job_", 1))
    if job.endpoint != RESPONSES:
        raise NotFound("no such response")
    return job


def view(job: Job) -> dict[str, Any]:
    """The response that a job's row is."""
    if job.status is JobStatus.SUCCEEDED and job.result is not None:
        return job.result
    head = {
        "id": public_id("resp_", job.id),
        "created": job.created_ms // 1000,
        "model": job.model,
        "service_tier": job.details.get("service_tier", ServiceTier.DEFAULT),
    }
    return response(head, job.body["asked"], STATUS[job.status], error=job.error)


def _frame(body: ResponseBody) -> MakeFrame:
    def make(call: OnlineCall) -> ResponseFrame:
        head = {
            "id": public_id("resp_", call.id),
            "created": int(time.time()),
            "model": call.model,
            "service_tier": call.profile.service_tier,
        }
        return ResponseFrame(head, body.asked())

    return make


def _answer(job: Job) -> Response:
    answer = jsonify(view(job))
    answer.headers.extend(job_headers(job))
    return answer

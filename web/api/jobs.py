"""How are jobs submitted, polled, listed and cancelled?"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Response, abort, jsonify, request
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import SERVICE_TIERS, TaskType
from qosqueue.service.endpoints import job_request, refused_to_wait
from qosqueue.service.job_body import JobBody
from qosqueue.service.requests import JobRequest
from qosqueue.store.records import Job
from qosqueue_web.api.answers import ExplanationAnswer, JobAnswer, JobList, explanation_answer, job_answer
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.headers import accepted_headers, job_headers, latency_budget_ms, preferred_wait_s
from qosqueue_web.api.hints import hints_of
from qosqueue_web.api.idempotent import made_id
from qosqueue_web.api.queries import JobPath, JobQuery, JobsQuery

if TYPE_CHECKING:
    from qosqueue.wiring import Services

_JOB_ID = re.compile(r"job_[0-9a-f]{24}")
# The same words for a job that never was and for another tenant's: an id must not tell which.
_UNKNOWN = Refusal(404, "job_not_found", "there is no such job", "id")
_UNKNOWN_WEBHOOK = Refusal(
    404, "webhook_endpoint_not_found", "webhook: expected the id or URL of a webhook endpoint of yours", "webhook"
)


def add_jobs(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/jobs."""

    @api.post("/v1/jobs", operation_id="submitJob", responses={202: JobAnswer})
    def submit_job(body: JobBody) -> Response:
        """Submit a job: its answer is polled at `Location`."""
        refusal = refused_to_wait(services.catalog, body.body)
        if refusal is not None:
            return error_response(refusal)
        endpoint_id = None if body.webhook is None else services.webhooks.named(current_tenant().id, body.webhook)
        if body.webhook is not None and endpoint_id is None:
            return error_response(_UNKNOWN_WEBHOOK)
        job = services.jobs.submit(current_tenant(), _job_request(body, endpoint_id))
        if isinstance(job, Refusal):
            return error_response(job)
        response = jsonify(job_answer(job).model_dump())
        response.status_code = 202
        response.headers.extend(accepted_headers(job))
        return response

    @api.get("/v1/jobs", operation_id="listJobs", responses={200: JobList})
    def list_jobs(query: JobsQuery) -> Response:
        """List the tenant's jobs, newest first."""
        try:
            # One more than asked for tells whether there is a next page.
            jobs = services.jobs.list(current_tenant().id, query.limit + 1, query.before)
        except NotFound:
            return error_response(replace(_UNKNOWN, param="before"))
        page = [job_answer(job) for job in jobs[: query.limit]]
        last_id = page[-1].id if page else None
        return jsonify(JobList(data=page, has_more=len(jobs) > query.limit, last_id=last_id).model_dump())

    @api.get("/v1/jobs/<id>", operation_id="retrieveJob", responses={200: JobAnswer})
    def retrieve_job(path: JobPath, query: JobQuery) -> Response:
        """One job; with `wait`, as soon as it has ended or that time is up."""
        wait_s = query.wait if query.wait is not None else preferred_wait_s()
        job_id = _known(path.id)
        try:
            if wait_s:
                job = services.jobs.wait(current_tenant().id, job_id, wait_s)
            else:
                job = services.jobs.get(current_tenant().id, job_id)
        except NotFound:
            return error_response(_UNKNOWN)
        return _answer(job)

    @api.post("/v1/jobs/<id>/cancel", operation_id="cancelJob", responses={200: JobAnswer})
    def cancel_job(path: JobPath) -> Response:
        """Cancel a job; one that has ended stays as it ended."""
        try:
            return _answer(services.jobs.cancel(current_tenant().id, _known(path.id)))
        except NotFound:
            return error_response(_UNKNOWN)

    @api.get("/v1/jobs/<id>/explain", operation_id="explainJob", responses={200: ExplanationAnswer})
    def explain_job(path: JobPath) -> Response:
        """Why a request waited and what was decided about it, in sentences; also of a chat, by its id, `chatcmpl-…`."""
        job_id = _known(path.id.replace("chatcmpl-", "job_", 1))
        try:
            explanation = services.explanations.of_tenant(current_tenant().id, job_id)
        except NotFound:
            return error_response(_UNKNOWN)
        return jsonify(explanation_answer(explanation).model_dump())


def _known(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        abort(error_response(_UNKNOWN))
    return job_id


def _job_request(body: JobBody, webhook: str | None) -> JobRequest:
    """What the job says wins over what its body says."""
    asked = body.body
    budget_ms = body.latency_budget_ms if body.latency_budget_ms is not None else asked.latency_budget_ms
    hints = hints_of(request.environ)
    own: dict[str, Any] = {} if body.metadata is None else {"metadata": body.metadata}
    changes: dict[str, Any] = {} if body.service_tier is None else {"service_tier": SERVICE_TIERS[body.service_tier]}
    return job_request(
        asked,
        TaskType(body.task_type),
        latency_budget_ms=latency_budget_ms(budget_ms),
        ttl_ms=body.deadline_ms,
        details=own | hints.noted(),
        webhook=webhook,
        traceparent=hints.traceparent,
        **changes,
        **made_id(),
    )


def _answer(job: Job) -> Response:
    response = jsonify(job_answer(job).model_dump())
    response.headers.extend(job_headers(job))
    return response

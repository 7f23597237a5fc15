"""How are jobs submitted, polled, listed and cancelled?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flask import Response, abort, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.requests import JobRequest
from qosqueue.store.records import Job
from qosqueue_web.api.answers import JobAnswer, JobList, job_answer
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.chat import too_long_for
from qosqueue_web.api.errors import error_response, invalid_value
from qosqueue_web.api.headers import latency_budget_ms, preferred_wait_s
from qosqueue_web.api.schemas import JobBody, JobPath, JobQuery, JobsQuery

if TYPE_CHECKING:
    from qosqueue.wiring import Services

_JOB_ID = re.compile(r"job_[0-9a-f]{24}")
# The same words for a job that never was and for another tenant's: an id must not tell which.
_UNKNOWN = Refusal(404, "job_not_found", "there is no such job", "id")


def add_jobs(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/jobs."""

    @api.post("/v1/jobs", operation_id="submitJob", responses={202: JobAnswer})
    def submit_job(body: JobBody) -> Response:
        """Submit a job: its answer is polled at `Location`."""
        refusal = _refused_at_the_door(body, services)
        if refusal is not None:
            return error_response(refusal)
        job = services.jobs.submit(current_tenant(), _job_request(body))
        if isinstance(job, Refusal):
            return error_response(job)
        response = _answer(job)
        response.status_code = 202
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        response.headers["Retry-After"] = "1"
        return response

    @api.get("/v1/jobs", operation_id="listJobs", responses={200: JobList})
    def list_jobs(query: JobsQuery) -> Response:
        """List the tenant's jobs, newest first."""
        try:
            # One more than asked for tells whether there is a next page.
            jobs = services.jobs.list(current_tenant().id, query.limit + 1, query.before)
        except NotFound:
            return error_response(invalid_value("before", "there is no such job"))
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


def _known(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        abort(error_response(_UNKNOWN))
    return job_id


def _refused_at_the_door(body: JobBody, services: Services) -> Refusal | None:
    if body.body.stream:
        return invalid_value("body.stream", "a job is polled, not streamed")
    return too_long_for(services.catalog, body.body, "body.")


def _job_request(body: JobBody) -> JobRequest:
    chat = body.body
    budget_ms = body.latency_budget_ms if body.latency_budget_ms is not None else chat.latency_budget_ms
    metadata = body.metadata if body.metadata is not None else chat.metadata
    return JobRequest(
        endpoint=body.endpoint,
        model=chat.model,
        body=chat.engine_body(),
        task_type=TaskType(body.task_type),
        latency_budget_ms=latency_budget_ms(budget_ms),
        ttl_ms=body.deadline_ms,
        max_output_tokens=chat.output_tokens(),
        prompt_tokens=chat.prompt_tokens(),
        details={"metadata": metadata or {}},
    )


def _answer(job: Job) -> Response:
    response = jsonify(job_answer(job).model_dump())
    response.headers["x-qosqueue-priority"] = str(job.priority)
    response.headers["x-qosqueue-lane"] = job.routing_key
    return response

"""How do programs look at jobs of all tenants, take them back and move them?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from qosqueue.policy.terms import MAX_BUDGET_MS
from qosqueue.service.reranks import ANY_PRIORITY, LONGEST_BOOST_S
from qosqueue.service.whole import WHOLE
from qosqueue.store.records import Job
from qosqueue_web.admin_api.access import actor
from qosqueue_web.admin_api.shapes import AuditList, AuditShape, JobPage, JobShape

if TYPE_CHECKING:
    from qosqueue.wiring import Services

# The bounds are for the document: the service checks them, once it knows the job's tier.
AnyPriority = Annotated[int, Field(json_schema_extra={"minimum": ANY_PRIORITY[0], "maximum": ANY_PRIORITY[1]}), WHOLE]
BudgetMs = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": MAX_BUDGET_MS}), WHOLE]
BoostS = Annotated[int, Field(json_schema_extra={"minimum": 0, "maximum": LONGEST_BOOST_S}), WHOLE]
MOST_JOBS = 100
MOST_ENTRIES = 1_000


class JobPath(BaseModel):
    """Which job."""

    job_id: str


class JobsQuery(BaseModel):
    """Which page of the jobs: of one tenant (id or name) or of all, those made before the job `before`."""

    model_config = ConfigDict(extra="forbid")

    tenant: str | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_JOBS)] = 20
    before: str | None = None


class AuditQuery(BaseModel):
    """How many entries."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_ENTRIES)] = 100


class RerankBody(BaseModel):
    """Another priority of the job's tier, another start budget (ms from its arrival), or a boost for a time."""

    model_config = ConfigDict(extra="forbid", strict=True)

    priority: AnyPriority | None = None
    budget_ms: BudgetMs | None = None
    boost: AnyPriority | None = None
    boost_s: BoostS | None = None


def add_jobs(api: APIBlueprint, services: Services) -> None:
    """Add the routes of jobs and of the audit log."""

    @api.get("/v1/admin/jobs", operation_id="listJobs", responses={200: JobPage})
    def list_jobs(query: JobsQuery) -> Response:
        """Jobs, newest first."""
        tenant_id = None if query.tenant is None else services.accounts.get_tenant(query.tenant).id
        found = services.jobs.list(tenant_id, query.limit + 1, query.before)
        page = [_shape(job) for job in found[: query.limit]]
        last_id = page[-1].id if page else None
        return jsonify(JobPage(data=page, has_more=len(found) > query.limit, last_id=last_id).model_dump())

    @api.get("/v1/admin/jobs/<job_id>", operation_id="getJob", responses={200: JobShape})
    def get_job(path: JobPath) -> Response:
        """One job."""
        return _answer(services.jobs.find(path.job_id))

    @api.post("/v1/admin/jobs/<job_id>/cancel", operation_id="cancelJob", responses={200: JobShape})
    def cancel_job(path: JobPath) -> Response:
        """Take a job out of the queue, or tell it to stop where it runs."""
        return _answer(services.jobs.cancel_any(path.job_id, actor()))

    @api.post("/v1/admin/jobs/<job_id>/rerank", operation_id="rerankJob", responses={200: JobShape})
    def rerank_job(path: JobPath, body: RerankBody) -> Response:
        """Move a job that waits."""
        found = services.jobs.find(path.job_id)
        services.reranks.rerank(found.id, actor=actor(), **body.model_dump(exclude_unset=True))
        return _answer(services.jobs.find(found.id))

    @api.get("/v1/admin/audit", operation_id="listAudit", responses={200: AuditList})
    def list_audit(query: AuditQuery) -> Response:
        """Who changed what, newest first."""
        entries = services.audit.list(query.limit)
        shapes = [AuditShape(**{name: getattr(one, name) for name in AuditShape.model_fields}) for one in entries]
        return jsonify(AuditList(data=shapes).model_dump())


def _shape(job: Job) -> JobShape:
    return JobShape(**{name: getattr(job, name) for name in JobShape.model_fields})


def _answer(job: Job) -> Response:
    return jsonify(_shape(job).model_dump())

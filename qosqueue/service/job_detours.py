"""How does a job get its answer that its model has failed for good? As the road of its tenant's policy says.

It keeps its id, its time to live and its webhook, and is queued once more: its fence goes on, its row names the model
that is to answer. What it held of quotas went with the message that has failed, and is counted anew: where there is no
room it is let in as well, for accepted work is never lost. Only a model out of service is no way, and that is seen
before the message goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from qosqueue.broker.publish import Publisher
from qosqueue.errors import NotFound
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import ServiceTier
from qosqueue.service import decided
from qosqueue.service.accounts import Accounts
from qosqueue.service.admission import Admission, Plan
from qosqueue.service.detours import OUTPUT_FIELDS, Detours
from qosqueue.service.requests import JobRequest, new_row, wire_message
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job, Tenant

# What another plan changes of a job's row.
CHANGED = (
    *("model", "body", "details", "priority", "routing_key"),
    *("latency_class", "latency_budget_ms", "cost_tokens", "cost_ms"),
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OtherWay:
    """A job that its model has failed, in the attempt of that fence, the plan that it ran by and an `other` one."""

    job: Job
    fence: int
    tenant: Tenant
    plan: Plan
    other: Plan


class JobDetours:
    """What a worker asks when an attempt at a job was the last one. Raises StoreUnavailable and BrokerUnavailable."""

    def __init__(self, admission: Admission, accounts: Accounts, record: JobRecord, publisher: Publisher) -> None:
        self._admission = admission
        self._detours = Detours(admission)
        self._accounts = accounts
        self._record = record
        self._publisher = publisher

    def find(self, job_id: str, fence: int) -> OtherWay | None:
        """The way of a job whose model has failed it; None if its road leads no further. Changes nothing."""
        job = self._record.find(job_id)
        if job is None or job.status is not JobStatus.RUNNING or job.fence != fence:
            return None
        try:
            tenant = self._accounts.get_tenant(job.tenant_id)
        except NotFound:
            return None
        plan = self._admission.plan(tenant, _request_of(job))
        other = None if isinstance(plan, Refusal) else self._detours.other_model(tenant, plan)
        if isinstance(plan, Refusal) or other is None:
            return None
        return OtherWay(job, fence, tenant, plan, other)

    def go(self, way: OtherWay) -> bool:
        """Queue the job again in another way, once the message that has failed is gone; False: the broker let none in,
        and the job is as it was.

        Where another process was first (its tenant took it back, its lease was lost) nothing is to be done any more.
        """
        job, tenant = way.job, way.tenant
        went = self._detours.go_on(tenant, way.plan, way.other, lambda plan: self._admission.admit(plan, job.id))
        if went is None:
            return False
        plan, admitted = went
        request, profile = plan.request, plan.profile
        row = new_row(job.id, tenant, request, profile)
        told = [*request.changed, decided.admitted(admitted, now_ms())]
        columns = {name: row[name] for name in CHANGED}
        if not self._record.move(
            job.id, JobEvent.LEASE_LOST, *told, fence=way.fence, queued_ms=now_ms(), worker=None, **columns
        ):
            self._admission.release(job.id)
            return True
        message = wire_message(job.id, request, job.created_ms, profile, reply=None) | {"expires_ms": job.expires_ms}
        # The only message: the reconciler may have found the row first.
        self._publisher.publish(job.id, request.model, tenant.id, tenant.counts_as, profile, message, fence=way.fence)
        log.info("a job runs in another way", job=job.id, detours=request.detours)
        return True


def _request_of(job: Job) -> JobRequest:
    """The request that a job's row tells of, with what is left of its time to live."""
    left_ms = max(1, job.expires_ms - now_ms())
    output_tokens = max((job.body[name] for name in OUTPUT_FIELDS if name in job.body), default=0)
    return JobRequest(
        job.endpoint,
        job.model,
        job.body,
        job.task_type,
        max(0, job.cost_tokens - output_tokens),
        output_tokens,
        latency_budget_ms=min(job.latency_budget_ms, left_ms),
        ttl_ms=left_ms,
        details=job.details,
        detours=tuple(job.details.get("detours", ())),
        service_tier=ServiceTier(job.details.get("service_tier", ServiceTier.DEFAULT)),
        traceparent=job.details.get("traceparent"),
        id=job.id,
    )

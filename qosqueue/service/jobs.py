"""How does a tenant submit a job, follow it, and take it back?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
import structlog
from sqlalchemy.exc import IntegrityError

from qosqueue.broker.publish import Publisher
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, NotFound, StoreUnavailable
from qosqueue.policy.lifecycle import TERMINAL, JobEvent, JobStatus
from qosqueue.policy.refusal import NO_RATES, Rates, Refusal
from qosqueue.service import audit, decided
from qosqueue.service.admission import Admission
from qosqueue.service.detours import Detours
from qosqueue.service.requests import JobRequest, new_row, wire_message
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job, Tenant
from qosqueue.store.session import Store

FIRST_LOOK_S = 0.02
LAST_LOOK_S = 0.25

log = structlog.get_logger(__name__)


def nobody_hears(_tenant_id: str) -> bool:
    """No webhook is there."""
    return False


@dataclass(frozen=True)
class Accepted(Job):
    """A job that was just let in, and what its tenant had left then."""

    rates: Rates = NO_RATES


class Jobs:
    """Asynchronous requests. The row is committed before the message is queued: what was accepted is never lost."""

    def __init__(
        self,
        admission: Admission,
        record: JobRecord,
        publisher: Publisher,
        scripts: Scripts,
        store: Store,
        hears_of_jobs: Callable[[str], bool] = nobody_hears,
    ) -> None:
        self._admission = admission
        self._detours = Detours(admission)
        self._record = record
        self._publisher = publisher
        self._scripts = scripts
        self._store = store
        self._hears_of_jobs = hears_of_jobs

    def submit(self, tenant: Tenant, request: JobRequest) -> Accepted | Refusal:
        """Record and queue one job; of an id that is there already, that job.

        Raises StoreUnavailable or BrokerUnavailable: then it was not accepted.
        """
        job_id = request.id
        if request.is_keyed and (known := self._record.find(job_id, tenant.id)) is not None:
            # Whoever submitted it died before it could say so (service/idempotency.py).
            return Accepted(**vars(known))
        went = self._detours.go(tenant, request, lambda plan: self._admission.admit(plan, job_id))
        if isinstance(went, Refusal):
            return went
        plan, admitted = went
        request = plan.request
        row = new_row(job_id, tenant, request, admitted.profile, status=JobStatus.ACCEPTED)
        try:
            told = request.webhook is not None or self._hears_of_jobs(tenant.id)
            self._record.insert(
                [row],
                {job_id: [*request.changed, decided.admitted(admitted, row["created_ms"])]},
                [{"job_id": job_id, "endpoint_id": request.webhook}] if told else (),
            )
        except IntegrityError:
            # The same, in the same instant: what is held under the id is that job's.
            return Accepted(**vars(self.get(tenant.id, job_id)))
        except StoreUnavailable:
            self._admission.release(job_id)
            raise
        # Before the publish: a worker may begin at once, and must not seem to have begun before this.
        queued_ms = now_ms()
        message = wire_message(row["id"], request, row["created_ms"], admitted.profile, reply=None)
        try:
            # The only message: the reconciler may have found the row first.
            self._publisher.publish(
                row["id"], request.model, tenant.id, tenant.counts_as, admitted.profile, message, fence=0
            )
        except BrokerUnavailable as error:
            # If only the answer was lost, a worker will find the row final and leave the message alone.
            self._record.move(
                row["id"],
                JobEvent.REFUSED,
                finished_ms=now_ms(),
                error={"code": "broker_unavailable", "message": str(error), "status": 503, "param": None},
            )
            raise
        try:
            if not self._record.move(row["id"], JobEvent.ENQUEUED, queued_ms=queued_ms):
                # A worker was quicker: its move stands, and the instant is still known.
                self._record.note(row["id"], queued_ms=queued_ms)
            return Accepted(**vars(self.find(row["id"])), rates=admitted.rates)
        except StoreUnavailable as error:
            # Recorded and queued: it is accepted, and the worker's own move does without this one.
            log.warning("a job is queued, but not noted as such", job=row["id"], error=str(error))
            return Accepted(**row, rates=admitted.rates)

    def get(self, tenant_id: str, job_id: str) -> Job:
        """A tenant's own job; raises NotFound, the same for another tenant's job as for none."""
        job = self._record.find(job_id, tenant_id)
        if job is None:
            raise NotFound(f"No job {job_id!r}.")
        return job

    def find(self, job_id: str) -> Job:
        """Any tenant's job, for operators; raises NotFound."""
        job = self._record.find(job_id)
        if job is None:
            raise NotFound(f"no job {job_id!r}")
        return job

    def wait(self, tenant_id: str, job_id: str, timeout_s: float) -> Job:
        """The job as soon as it is final, or as it stands when `timeout_s` is over."""
        self.get(tenant_id, job_id)
        end_s, pause_s = time.monotonic() + timeout_s, FIRST_LOOK_S
        never = threading.Event()
        while self._record.status(job_id) not in TERMINAL and (left_s := end_s - time.monotonic()) > 0:
            never.wait(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, LAST_LOOK_S)
        return self.get(tenant_id, job_id)

    def cancel(self, tenant_id: str, job_id: str) -> Job:
        """Take a job back. A running one is told to stop and is final shortly after; a final one stays as it is."""
        job = self.get(tenant_id, job_id)
        if job.status not in TERMINAL:
            self.withdraw(job_id)
        return self.get(tenant_id, job_id)

    def cancel_any(self, job_id: str, actor: str) -> Job:
        """The same for an operator; leaves an audit entry, unless the job was final before."""
        before = self.find(job_id)
        after = self.cancel(before.tenant_id, job_id)
        if before.status not in TERMINAL:
            # A running job may still say `running` here: it has been told to stop.
            with self._store.session() as session:
                audit.append(
                    session,
                    actor=actor,
                    action="job.cancel",
                    subject=job_id,
                    before={"status": before.status},
                    after={"status": after.status},
                )
        return after

    def list(self, tenant_id: str | None, limit: int, before: str | None = None) -> list[Job]:
        """A page of jobs, newest first; `before` is the id of the last one seen. None as tenant: everybody's."""
        last_seen = None
        if before is not None:
            last_seen = self._record.find(before, tenant_id)
            if last_seen is None:
                raise NotFound(f"No job {before!r}.")
        return self._record.newest(tenant_id=tenant_id, limit=limit, before=last_seen)

    def withdraw(self, job_id: str) -> None:
        """Take a job out of the queue, or tell it to stop. Raises BrokerUnavailable."""
        try:
            runs = self._scripts.withdraw(task=job_id) == 2
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the broker did not take the cancellation: {error}") from error
        if not runs:
            # Gone from the queue, or not in it yet: a worker that still meets the message finds the row final.
            self._record.move(job_id, JobEvent.CANCEL, finished_ms=now_ms())

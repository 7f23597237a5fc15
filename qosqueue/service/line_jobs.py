"""How do lines of a batch become jobs in the one order? A window of them at a time, each exactly once.

A line and its job change in one transaction, before the message is sent. What was written down and not sent is queued
by the reconciler, as any job.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from qosqueue.broker.publish import Publisher
from qosqueue.errors import StoreUnavailable
from qosqueue.policy.batch import LineState
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service import decided
from qosqueue.service.accounts import Accounts
from qosqueue.service.admission import Admission, Plan
from qosqueue.service.batch_lines import line_error
from qosqueue.service.endpoints import job_request, read_body
from qosqueue.service.files import Files
from qosqueue.service.requests import Admitted, JobRequest, new_row, wire_message
from qosqueue.store.batch_record import Batch, BatchRecord, Superseded
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision
from qosqueue.store.job_record import JobRecord
from qosqueue.store.line_record import LineRecord, NewLine
from qosqueue.store.records import Tenant

FEED_AT_ONCE = 100
FEED_BYTES_AT_ONCE = 4_194_304


class LineJobs:
    """Makes jobs of waiting lines, at most `window` of a batch at a time in the queue."""

    def __init__(
        self,
        *,
        files: Files,
        record: BatchRecord,
        lines: LineRecord,
        jobs: JobRecord,
        accounts: Accounts,
        admission: Admission,
        publisher: Publisher,
        window: int,
    ) -> None:
        self._files = files
        self._record = record
        self._lines = lines
        self._jobs = jobs
        self._accounts = accounts
        self._admission = admission
        self._publisher = publisher
        self._window = window

    def feed(self, batch: Batch, holder: str) -> bool:
        """Queue some lines of a batch; whether it may take more at once. Raises Superseded, BrokerUnavailable."""
        tenant = self._accounts.get_tenant(batch.tenant_id)
        room = self._window - self._lines.count(batch.id, LineState.QUEUED)
        waiting = self._lines.waiting(batch.id, min(room, FEED_AT_ONCE)) if room > 0 and tenant.enabled else []
        if not waiting:
            return False
        taken: list[tuple[NewLine, Plan, dict[str, Any]]] = []
        told: dict[str, list[Decision]] = {}
        refused: list[tuple[NewLine, Refusal]] = []
        held_up, size = False, 0
        for line in waiting:
            let_in = self._admitted(tenant, batch, line)
            if not isinstance(let_in, Refusal):
                plan, admitted = let_in
                details = {"status": JobStatus.ACCEPTED, "expires_ms": batch.expires_ms}
                row = new_row(plan.request.id, tenant, plan.request, admitted.profile, **details)
                taken.append((line, plan, row))
                told[row["id"]] = [decided.admitted(admitted, row["created_ms"])]
            elif _passes(let_in):
                held_up = True
                break
            else:
                refused.append((line, let_in))
            size += line.length
            if size >= FEED_BYTES_AT_ONCE:
                break
        try:
            with self._record.holding(batch.id, holder) as session:
                self._lines.become_jobs(session, batch.id, [(line.number, row) for line, _, row in taken], told)
                for line, refusal in refused:
                    self._lines.refuse(session, batch.id, line.number, line_error(refusal, line.number))
                self._record.count(session, batch.id, failed=len(refused))
        except (Superseded, StoreUnavailable):
            for _, _, row in taken:
                self._admission.release(row["id"])
            raise
        self._send(tenant, [(plan, row) for _, plan, row in taken])
        return not held_up

    def _admitted(self, tenant: Tenant, batch: Batch, line: NewLine) -> tuple[Plan, Admitted] | Refusal:
        """How a line will run, which is let in, or why not."""
        request = self._request(batch, line)
        plan = request if isinstance(request, Refusal) else self._admission.plan(tenant, request)
        if isinstance(plan, Refusal):
            return plan
        admitted = self._admission.admit(plan, plan.request.id)
        return admitted if isinstance(admitted, Refusal) else (plan, admitted)

    def _request(self, batch: Batch, line: NewLine) -> JobRequest | Refusal:
        """The line once more from the file: 50,000 bodies are not kept in memory, nor twice in SQL."""
        left_ms = max(1, batch.expires_ms - now_ms())
        try:
            with self._files.path(batch.input_file_id).open("rb") as source:
                source.seek(line.offset)
                value = from_json(source.read(line.length))
        except (FileNotFoundError, ValueError):
            return Refusal(400, "file_not_found", "the input file is gone, or not what it was")
        body = read_body(batch.endpoint, value["body"])
        if isinstance(body, Refusal):
            return body
        details = {"batch_id": batch.id, "custom_id": line.custom_id}
        # The window is when the answers should begin: for half of it the line fills idle slots only.
        return job_request(body, TaskType.BATCH, latency_budget_ms=left_ms, ttl_ms=left_ms, details=details)

    def _send(self, tenant: Tenant, jobs: list[tuple[Plan, dict[str, Any]]]) -> None:
        queued_ms, sent = now_ms(), []
        try:
            for plan, row in jobs:
                message = wire_message(row["id"], plan.request, row["created_ms"], plan.profile, reply=None)
                model, whose = plan.request.model, (tenant.id, tenant.counts_as)
                # The only message: the reconciler may have found the row first.
                self._publisher.publish(row["id"], model, *whose, plan.profile, message, fence=0)
                sent.append(row["id"])
        finally:
            self._jobs.queued(sent, queued_ms)


def _passes(refusal: Refusal) -> bool:
    """Whether the same request may be admitted later."""
    return refusal.retry_after_s is not None or refusal.status == 503

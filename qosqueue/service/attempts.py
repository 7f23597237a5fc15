"""What does a worker write down about an attempt at a job? Everything with its fence."""

from __future__ import annotations

from typing import Any

from qosqueue.policy.lifecycle import JobEvent
from qosqueue.service import decided
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord


class Attempts:
    """The worker's side of the job record. All methods raise StoreUnavailable; False means: this attempt is stale."""

    def __init__(self, record: JobRecord) -> None:
        self._record = record

    def begin(self, job_id: str, fence: int, worker: str, passage: str = "") -> dict[str, Any] | None:
        """Note that an attempt runs, and what its message met until then; the job's body, or None if the job is final
        or another attempt has it."""
        dispatched = decided.dispatched(fence, worker, passage)
        if not self._record.move(
            job_id,
            JobEvent.DISPATCHED,
            dispatched,
            fence=fence,
            attempts=fence,
            worker=worker,
            started_ms=dispatched.at_ms,
        ):
            return None
        job = self._record.find(job_id)
        return None if job is None else job.body

    def finish(
        self,
        job_id: str,
        fence: int,
        result: dict[str, Any],
        *,
        prompt_tokens: int,
        completion_tokens: int,
        first_token_ms: int,
        gpu_ms: int = 0,
    ) -> bool:
        """Store the result and charge what it took, once."""
        return self._record.move(
            job_id,
            JobEvent.FINISHED,
            fence=fence,
            result=result,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            first_token_ms=first_token_ms,
            gpu_ms=gpu_ms,
            finished_ms=now_ms(),
        )

    def fail(self, job_id: str, fence: int, error: dict[str, Any]) -> bool:
        """Store why the job failed, once."""
        return self._record.move(job_id, JobEvent.ERRORED, fence=fence, error=error, finished_ms=now_ms())

    def waits_again(self, job_id: str, fence: int, failed_ms: int) -> bool:
        """Note that the attempt failed, when it did, and that the job waits for its next one; False: that one has begun
        already, and it is noted that this one had failed."""
        retried = decided.retried(failed_ms)
        if self._record.move(job_id, JobEvent.LEASE_LOST, retried, fence=fence):
            return True
        self._record.keep(job_id, retried)
        return False

    def lost(self, job_id: str, fence: int, lost_ms: int) -> None:
        """Note that the attempt's worker was lost, when that was noticed, and that the job waits again, unless its next
        attempt was quicker."""
        lost = decided.lease_lost(fence, lost_ms)
        if not self._record.move(job_id, JobEvent.LEASE_LOST, lost, fence=fence):
            self._record.keep_of_attempt(job_id, fence, lost)

    def cancelled(self, job_id: str, fence: int, **used: int) -> bool:
        """Note that the attempt stopped because its tenant took the job back. What it used until then, if it did
        (`prompt_tokens`, `completion_tokens`, `gpu_ms`), is charged."""
        columns: dict[str, Any] = {"finished_ms": now_ms(), **used}
        return self._record.move(job_id, JobEvent.CANCEL, fence=fence, **columns)

    def expires_ms(self, job_id: str) -> int | None:
        """When the job's time to live ends (ms since the epoch); None if there is no such job."""
        return self._record.expires_ms(job_id)

    def expire(self, job_id: str) -> bool:
        """Note that the job was not begun in its time to live."""
        return self._record.move(
            job_id,
            JobEvent.DEADLINE_PASSED,
            finished_ms=now_ms(),
            error={
                "status": 504,
                "code": "deadline_exceeded",
                "message": "The job was not begun before its deadline.",
                "param": None,
            },
        )

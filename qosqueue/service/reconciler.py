"""Which jobs are on record as open although the queue does not know them, and how do they get back into it?

The record is written first, so it is what counts. A job may be missing in the queue because a process died between the
commit and the enqueue, or because the broker lost data. Every sweep looks at what was accepted but never queued, at
what runs, and at some of what waits. How far it has looked is written into the broker itself: where that is missing
the server is a new or an emptied one: everything that waits is looked at until the end, and what was spent today is
put back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import structlog

from qosqueue.broker.publish import Publisher
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.service import decided
from qosqueue.service.admission import Admission
from qosqueue.service.requests import JobRequest, profile_of_row, wire_message
from qosqueue.service.spent_today import SpentToday
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord, OpenJob
from qosqueue.store.records import Job, Tenant

GRACE_MS = 10_000
"""A job so young may be on its way from the record to the queue."""
PAGE = 1_000
RUN_S = 10.0
DONE = "done"
WHY = {
    JobStatus.ACCEPTED: "it was on record and had not been queued",
    JobStatus.QUEUED: "the queue had lost it",
    JobStatus.RUNNING: "the queue had lost it while it ran",
}

log = structlog.get_logger(__name__)


@dataclass
class Outcome:
    """Ids of jobs that were queued: accepted ones that never had been, and those that the queue had lost."""

    fell_between: list[str]
    forgotten: list[str]


class Reconciler:
    """Raises StoreUnavailable, BrokerUnavailable and redis.RedisError; what was not done then is done in a later run.

    A job that runs keeps running: it is queued again, with a fence behind its own, when the queue has not known it for
    a lease's time, in which its worker has heard that it holds nothing any more.
    """

    def __init__(
        self,
        scripts: Scripts,
        record: JobRecord,
        publisher: Publisher,
        admission: Admission,
        spent_today: SpentToday,
        *,
        lease_ms: int,
        grace_ms: int = GRACE_MS,
    ) -> None:
        self._client = scripts.client
        self._tasks = f"{scripts.key}:tasks"
        self._looked_until = f"{scripts.key}:looked-until"
        self._record = record
        self._publisher = publisher
        self._admission = admission
        self._spent_today = spent_today
        self._lease_ms = lease_ms
        self._grace_ms = grace_ms
        self._last: OpenJob | None = None
        self._lost_since: dict[str, int] = {}
        self._looking = threading.Lock()

    def run(self) -> Outcome:
        """Look once. While one look goes on, another would look at the same rows: it does nothing."""
        if not self._looking.acquire(blocking=False):
            return Outcome([], [])
        try:
            return self._run()
        finally:
            self._looking.release()

    def _run(self) -> Outcome:
        before_ms = now_ms() - self._grace_ms
        outcome = Outcome([], [])
        # A new server gets its mark before the first look: if it is emptied meanwhile, that shows.
        if self._client.set(self._looked_until, "", nx=True):
            log.warning("the broker has no mark of an earlier look: all that waits is looked at")
        if self._client.get(self._looked_until) == b"":
            # No look has come far enough to leave another mark: nor may this have been done. Before jobs count again.
            self._spent_today.put_back()
        accepted = self._record.open([JobStatus.ACCEPTED], before_ms, PAGE)
        lost = self._look(accepted, outcome)
        # Queued, but that could not be written down: they must not hide those behind them.
        self._record.queued([job.id for job in accepted if job.id not in lost], now_ms())
        self._look(self._record.open([JobStatus.RUNNING], before_ms, PAGE), outcome)
        mark = cast("bytes | None", self._client.get(self._looked_until))
        if mark is None:
            return outcome  # emptied just now: the next run begins again
        if mark.decode() == DONE:
            self._last = self._look_at_page(self._last, before_ms, outcome)
        else:
            self._look_to_the_end(_read(mark.decode()), before_ms, outcome)
        return outcome

    def _look_to_the_end(self, last: OpenJob | None, before_ms: int, outcome: Outcome) -> None:
        until_s = time.monotonic() + RUN_S
        while time.monotonic() < until_s:
            last = self._look_at_page(last, before_ms, outcome)
            mark = DONE if last is None else f"{last.created_ms}:{last.id}"
            # Only where there is one: whoever emptied the broker took it along.
            if not self._client.set(self._looked_until, mark, xx=True) or last is None:
                return

    def _look_at_page(self, last: OpenJob | None, before_ms: int, outcome: Outcome) -> OpenJob | None:
        """The last one of a page, from which the next one goes on; None after the last page."""
        page = self._record.open([JobStatus.QUEUED, JobStatus.RUNNING], before_ms, PAGE, last)
        self._look(page, outcome)
        return page[-1] if len(page) == PAGE else None

    def _look(self, page: Sequence[OpenJob], outcome: Outcome) -> frozenset[str]:
        """Queue again those of a page that the queue does not know; which it did not know."""
        missing = self._unknown([job.id for job in page])
        if not missing:
            return frozenset()
        again: dict[JobStatus, list[str]] = {status: [] for status in WHY}
        # Read again after the queue was asked: what ended in between is final by now.
        found = self._record.open_jobs(missing)
        coming = [each for each in found if each[0].status is not JobStatus.RUNNING or self._is_given_up(each[0])]
        # Before the message, as at the door: what nobody queues after all lapses.
        self._admission.count_again(coming)
        for job, tenant in coming:
            if self._publish(job, tenant):
                again[job.status].append(job.id)
        for status, job_ids in again.items():
            self._record.queued(job_ids, now_ms(), decided.queued_again(WHY[status]))
            (outcome.fell_between if status is JobStatus.ACCEPTED else outcome.forgotten).extend(job_ids)
        return frozenset(missing)

    def _unknown(self, job_ids: Sequence[str]) -> list[str]:
        if not job_ids:
            return []
        tags = cast("list[bytes | None]", self._client.hmget(self._tasks, list(job_ids)))
        unknown = [job_id for job_id, tag in zip(job_ids, tags, strict=True) if tag is None]
        for job_id in set(job_ids) - set(unknown):
            self._lost_since.pop(job_id, None)
        return unknown

    def _is_given_up(self, job: Job) -> bool:
        """Whether its worker has had the time to hear that its lease is gone; then its attempt may write no more."""
        since_ms = self._lost_since.setdefault(job.id, now_ms())
        if now_ms() - since_ms < self._lease_ms:
            return False
        del self._lost_since[job.id]
        return self._record.move(job.id, JobEvent.LEASE_LOST, decided.lease_lost(job.fence), fence=job.fence)

    def _publish(self, job: Job, tenant: Tenant) -> bool:
        """Queue it as the only message of its task; False if somebody did meanwhile."""
        request = JobRequest(job.endpoint, job.model, job.body, job.task_type, 0, 0)
        profile = profile_of_row(job)
        message = wire_message(job.id, request, job.created_ms, profile, reply=None) | {"expires_ms": job.expires_ms}
        return self._publisher.publish(
            job.id, job.model, tenant.id, tenant.counts_as, profile, message, fence=job.fence
        )


def _read(mark: str) -> OpenJob | None:
    """Where a look that did not come to its end goes on."""
    created, _, job_id = mark.partition(":")
    return OpenJob(job_id, int(created)) if created else None

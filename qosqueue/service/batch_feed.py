"""How does a batch go on? Its lines are checked, become jobs a window at a time, and their ends are gathered.

Every step is small and ends with one transaction, so whoever is killed in the middle of one has done nothing or all of
it; the next run goes on from there, in this process or another.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import structlog

from qosqueue.errors import BrokerUnavailable, NotFound, StoreUnavailable
from qosqueue.policy.batch import BatchEvent, BatchStatus, LineState, line_after
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.service.batch_lines import check_line, line_error, read_lines
from qosqueue.service.batch_output import BatchOutput
from qosqueue.service.catalog import Catalog
from qosqueue.service.files import Files
from qosqueue.service.jobs import Jobs
from qosqueue.service.line_jobs import LineJobs
from qosqueue.service.webhook_events import WebhookEvents
from qosqueue.store.batch_record import Batch, BatchRecord, Superseded
from qosqueue.store.clock import now_ms
from qosqueue.store.file_record import FileRecord
from qosqueue.store.line_record import LineRecord, NewLine

MOST_LINES = 50_000
CHECK_AT_ONCE = 500
CHECK_BYTES_AT_ONCE = 8_388_608
END_AT_ONCE = 1_000
TOLD_ERRORS = 100

log = structlog.get_logger(__name__)


class BatchFeed:
    """Works on all open batches. Several processes may: each batch is held by one at a time."""

    def __init__(
        self,
        *,
        files: Files,
        file_record: FileRecord,
        record: BatchRecord,
        lines: LineRecord,
        line_jobs: LineJobs,
        jobs: Jobs,
        catalog: Catalog,
        events: WebhookEvents,
        most_line_bytes: int,
    ) -> None:
        self._files = files
        self._file_record = file_record
        self._record = record
        self._lines = lines
        self._line_jobs = line_jobs
        self._jobs = jobs
        self._catalog = catalog
        self._events = events
        self._output = BatchOutput(files, record, lines, events)
        self._most_line_bytes = most_line_bytes

    def run(self, for_s: float) -> None:
        """Bring every open batch on, in turn, until nothing is left to do now or the time is up.

        Raises StoreUnavailable or BrokerUnavailable: what was done stays, the next run goes on.
        """
        holder, until_s = secrets.token_hex(8), time.monotonic() + for_s
        busy = self._record.open_ids()
        if not busy:
            return
        try:
            while busy and time.monotonic() < until_s:
                busy = [batch_id for batch_id in busy if self._step(batch_id, holder)]
        finally:
            self._record.release(holder)

    def forget_lines(self, ended_before_ms: int, limit: int) -> int:
        """Drop lines of batches that ended before an instant, whose outputs are files; how many."""
        return self._lines.forget(ended_before_ms, limit)

    def _step(self, batch_id: str, holder: str) -> bool:
        """Bring one batch on by a step; whether there is more to do at once."""
        try:
            if not self._record.hold(batch_id, holder):
                return False
            batch = self._record.find(batch_id)
            return batch is not None and self._go_on(batch, holder)
        except Superseded:
            return False
        except (StoreUnavailable, BrokerUnavailable):
            raise
        except Exception:
            # One batch that cannot go on holds up no other; its window ends it.
            log.exception("a batch does not go on", batch=batch_id)
            return False

    def _go_on(self, batch: Batch, holder: str) -> bool:
        if batch.status is BatchStatus.VALIDATING:
            return self._check(batch, holder)
        gathered = self._gather(batch, holder)
        if batch.status is BatchStatus.IN_PROGRESS:
            if self._is_over(batch) or not self._lines.any_open(batch.id):
                with self._record.holding(batch.id, holder) as session:
                    return self._record.move(session, batch.id, BatchEvent.CLOSED, finalizing_ms=now_ms())
            return self._line_jobs.feed(batch, holder) or gathered
        self._stop(batch, holder)
        if self._lines.any_open(batch.id):
            return gathered
        self._output.end(batch, holder)
        return False

    def _is_over(self, batch: Batch) -> bool:
        return now_ms() >= batch.expires_ms

    # -- validating

    def _check(self, batch: Batch, holder: str) -> bool:
        file = self._file_record.find(batch.tenant_id, batch.input_file_id)
        if file is None:
            return self._refuse(batch, holder, [{"code": "file_not_found", "message": "the input file is gone"}])
        try:
            source = self._files.open(file)
        except NotFound:
            return self._refuse(batch, holder, [{"code": "file_not_found", "message": "the input file is gone"}])
        with source:
            raw = read_lines(source, batch.read_bytes, batch.read_lines + 1, self._most_line_bytes)
            checked: list[NewLine] = []
            for line in _some(raw):
                found = check_line(line, batch.endpoint, self._catalog, self._most_line_bytes)
                error = line_error(found.body, line.number) if isinstance(found.body, Refusal) else None
                checked.append(NewLine(line.number, found.custom_id, line.offset, line.length, error))
        if batch.total + len(checked) > MOST_LINES:
            told = f"the file has more than {MOST_LINES} requests: make several batches of it"
            return self._refuse(batch, holder, [{"code": "too_many_lines", "message": told}])
        if not checked:
            return self._checked(batch, holder)
        checked = self._without_doubles(batch, checked)
        last = checked[-1]
        with self._record.holding(batch.id, holder) as session:
            self._lines.insert(session, batch.id, checked)
            self._record.read_up_to(session, batch.id, last.offset + last.length, last.number)
            bad = sum(line.error is not None for line in checked)
            self._record.count(session, batch.id, total=len(checked), failed=bad)
        return True

    def _without_doubles(self, batch: Batch, lines: Sequence[NewLine]) -> list[NewLine]:
        """The lines; each that has the `custom_id` of an earlier one is refused."""
        seen = self._lines.taken_ids(batch.id, [line.custom_id for line in lines if line.custom_id is not None])
        kept = []
        for line in lines:
            if line.custom_id in seen and line.error is None:
                told = "custom_id: an earlier line has the same"
                refusal = Refusal(400, "duplicate_custom_id", told, "custom_id")
                line = replace(line, error=line_error(refusal, line.number))
            if line.custom_id is not None:
                seen.add(line.custom_id)
            kept.append(line)
        return kept

    def _checked(self, batch: Batch, holder: str) -> bool:
        if not batch.total:
            return self._refuse(batch, holder, [{"code": "empty_file", "message": "the input file has no line"}])
        if batch.failed == batch.total:
            return self._refuse(batch, holder, [error for _, error in self._lines.invalid(batch.id, TOLD_ERRORS)])
        with self._record.holding(batch.id, holder) as session:
            return self._record.move(session, batch.id, BatchEvent.CHECKED, in_progress_ms=now_ms())

    def _refuse(self, batch: Batch, holder: str, errors: list[dict[str, Any]]) -> bool:
        told = {"object": "list", "data": errors}
        with self._record.holding(batch.id, holder) as session:
            if self._record.move(session, batch.id, BatchEvent.REFUSED, failed_ms=now_ms(), errors=told):
                self._events.emit(session, batch.tenant_id, "batch.failed", batch.id)
        return False

    # -- running

    def _gather(self, batch: Batch, holder: str) -> bool:
        """Take note of the jobs that have ended; whether there may be more of them."""
        found = self._lines.ended_jobs(batch.id, END_AT_ONCE)
        by_state: dict[LineState, list[int]] = {}
        for each in found:
            state = line_after(each.status, batch.status, window_over=self._is_over(batch))
            if state is not None:
                by_state.setdefault(state, []).append(each.number)
        if by_state:
            with self._record.holding(batch.id, holder) as session:
                counts: Counter[str] = Counter()
                for state, numbers in by_state.items():
                    name = "completed" if state is LineState.SUCCEEDED else "failed"
                    counts[name] += self._lines.end(session, batch.id, numbers, state)
                self._record.count(session, batch.id, **counts)
        return bool(found)

    def _stop(self, batch: Batch, holder: str) -> None:
        """Take back what has not begun; if the window is over, what runs too."""
        cancelled = batch.status is BatchStatus.CANCELLING
        with self._record.holding(batch.id, holder) as session:
            state = LineState.CANCELLED if cancelled else LineState.EXPIRED
            ended = self._lines.end_waiting(session, batch.id, state)
            self._record.count(session, batch.id, failed=ended)
        statuses = [JobStatus.ACCEPTED, JobStatus.QUEUED] + ([] if cancelled else [JobStatus.RUNNING])
        for job_id in self._lines.open_jobs(batch.id, statuses, END_AT_ONCE):
            self._jobs.withdraw(job_id)


def _some(lines: Iterator[Any]) -> Iterator[Any]:
    """As many lines as one step takes: so many, or so many bytes."""
    taken = 0
    for line in itertools.islice(lines, CHECK_AT_ONCE):
        yield line
        taken += line.length
        if taken >= CHECK_BYTES_AT_ONCE:
            return

"""Which moves may a batch make, and what does the end of a job mean for its line? Statuses are OpenAI's.

As for jobs (lifecycle.py) a forbidden move is no error: another process was first.
"""

from __future__ import annotations

from enum import StrEnum

from qosqueue.policy.lifecycle import TERMINAL, JobStatus


class BatchStatus(StrEnum):
    """Where a batch is."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class BatchEvent(StrEnum):
    """What happened to a batch."""

    CHECKED = "checked"
    REFUSED = "refused"
    # Every line has ended, or the completion window has.
    CLOSED = "closed"
    CANCEL = "cancel"
    ASSEMBLED = "assembled"
    ASSEMBLED_PARTLY = "assembled_partly"
    STOPPED = "stopped"


BATCH_TRANSITIONS: dict[BatchStatus, dict[BatchEvent, BatchStatus]] = {
    BatchStatus.VALIDATING: {
        BatchEvent.CHECKED: BatchStatus.IN_PROGRESS,
        BatchEvent.REFUSED: BatchStatus.FAILED,
        BatchEvent.CANCEL: BatchStatus.CANCELLING,
    },
    BatchStatus.IN_PROGRESS: {
        BatchEvent.CLOSED: BatchStatus.FINALIZING,
        BatchEvent.CANCEL: BatchStatus.CANCELLING,
    },
    BatchStatus.FINALIZING: {
        BatchEvent.ASSEMBLED: BatchStatus.COMPLETED,
        BatchEvent.ASSEMBLED_PARTLY: BatchStatus.EXPIRED,
    },
    BatchStatus.CANCELLING: {BatchEvent.STOPPED: BatchStatus.CANCELLED},
    BatchStatus.FAILED: {},
    BatchStatus.COMPLETED: {},
    BatchStatus.EXPIRED: {},
    BatchStatus.CANCELLED: {},
}

ENDED_BATCHES = frozenset(status for status, moves in BATCH_TRANSITIONS.items() if not moves)


def batch_target(event: BatchEvent) -> BatchStatus:
    """The status after `event`, from wherever it is legal."""
    return {event: status for moves in BATCH_TRANSITIONS.values() for event, status in moves.items()}[event]


def batch_sources(event: BatchEvent) -> frozenset[BatchStatus]:
    """The statuses from which `event` is legal."""
    return frozenset(status for status, moves in BATCH_TRANSITIONS.items() if event in moves)


class LineState(StrEnum):
    """Where a line of a batch is. `invalid`: it was refused before anything ran."""

    WAITING = "waiting"
    QUEUED = "queued"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALID = "invalid"


OPEN_LINES = frozenset({LineState.WAITING, LineState.QUEUED})


def line_after(job: JobStatus, batch: BatchStatus, *, window_over: bool) -> LineState | None:
    """What a line is once its job stands so; None: still queued.

    A job that was taken back because the window of its batch is over counts as expired.
    """
    if job not in TERMINAL:
        return None
    if job is JobStatus.SUCCEEDED:
        return LineState.SUCCEEDED
    if job is JobStatus.EXPIRED:
        return LineState.EXPIRED
    if job is JobStatus.CANCELLED:
        late = window_over and batch is not BatchStatus.CANCELLING
        return LineState.EXPIRED if late else LineState.CANCELLED
    return LineState.FAILED

"""Which moves may a job make? One table; the diagram in docs/design/lifecycle.md is generated from it.

Several processes may ask for a move at once, and all but one come too late: a forbidden move is no error. It
changes no row, and JobRecord.move says so with False.
"""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job is. `accepted` is recorded in SQL and not yet queued."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class JobEvent(StrEnum):
    """What happened to a job."""

    ENQUEUED = "enqueued"
    REFUSED = "refused"
    DISPATCHED = "dispatched"
    LEASE_LOST = "lease_lost"
    FINISHED = "finished"
    ERRORED = "errored"
    CANCEL = "cancel"
    DEADLINE_PASSED = "deadline_passed"
    REPLAYED = "replayed"


TRANSITIONS: dict[JobStatus, dict[JobEvent, JobStatus]] = {
    JobStatus.ACCEPTED: {
        JobEvent.ENQUEUED: JobStatus.QUEUED,
        JobEvent.REFUSED: JobStatus.REJECTED,
        # A worker may pick the message before the web process has written down that it was queued.
        JobEvent.DISPATCHED: JobStatus.RUNNING,
        JobEvent.CANCEL: JobStatus.CANCELLED,
        JobEvent.DEADLINE_PASSED: JobStatus.EXPIRED,
    },
    JobStatus.QUEUED: {
        JobEvent.DISPATCHED: JobStatus.RUNNING,
        JobEvent.CANCEL: JobStatus.CANCELLED,
        JobEvent.DEADLINE_PASSED: JobStatus.EXPIRED,
        JobEvent.ERRORED: JobStatus.FAILED,
    },
    JobStatus.RUNNING: {
        JobEvent.DISPATCHED: JobStatus.RUNNING,
        JobEvent.LEASE_LOST: JobStatus.QUEUED,
        JobEvent.FINISHED: JobStatus.SUCCEEDED,
        JobEvent.ERRORED: JobStatus.FAILED,
        JobEvent.CANCEL: JobStatus.CANCELLED,
        JobEvent.DEADLINE_PASSED: JobStatus.EXPIRED,
    },
    JobStatus.SUCCEEDED: {},
    # Only where its message is kept as a dead letter: an operator gives it all its attempts again.
    JobStatus.FAILED: {JobEvent.REPLAYED: JobStatus.QUEUED},
    JobStatus.CANCELLED: {},
    JobStatus.EXPIRED: {},
    JobStatus.REJECTED: {},
}

# What ended stays so, whatever happens to it; that somebody may replay it makes no client wait.
TERMINAL = frozenset(status for status, moves in TRANSITIONS.items() if set(moves) <= {JobEvent.REPLAYED})


# An event leads to one status wherever it is legal: an UPDATE can set it without reading the row first.
_TARGETS = {event: status for moves in TRANSITIONS.values() for event, status in moves.items()}


def target(event: JobEvent) -> JobStatus:
    """The status after `event`, from wherever it is legal: what an UPDATE sets."""
    return _TARGETS[event]


def sources(event: JobEvent) -> frozenset[JobStatus]:
    """The statuses from which `event` is legal: what an UPDATE's WHERE clause lists."""
    return frozenset(status for status, moves in TRANSITIONS.items() if event in moves)

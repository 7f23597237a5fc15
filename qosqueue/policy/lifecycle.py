"""Which moves may a job make? One table; the diagram in docs/design/lifecycle.md is generated from it."""

from __future__ import annotations

from enum import StrEnum


class IllegalTransition(Exception):
    """A lifecycle was asked for a move that its table does not have."""


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
    JobStatus.FAILED: {},
    JobStatus.CANCELLED: {},
    JobStatus.EXPIRED: {},
    JobStatus.REJECTED: {},
}

TERMINAL = frozenset(status for status, moves in TRANSITIONS.items() if not moves)


def advance(status: JobStatus, event: JobEvent) -> JobStatus:
    """The status after `event`; raises IllegalTransition if the table has no such move."""
    try:
        return TRANSITIONS[status][event]
    except KeyError:
        raise IllegalTransition(f"a job that is {status} cannot take the event {event}") from None


def sources(event: JobEvent) -> frozenset[JobStatus]:
    """The statuses from which `event` is legal: what an UPDATE's WHERE clause lists."""
    return frozenset(status for status, moves in TRANSITIONS.items() if event in moves)

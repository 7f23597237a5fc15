"""What was given up, why, and how does it run again?

A message whose last attempt lost its worker, or that a worker refused, is kept as a dead letter until it is replayed or
taken back. Its request has failed by then; a replay makes it wait again, with all its attempts and its time to live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, Conflict, NotFound
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.reference.message import State
from qosqueue.policy.terms import TaskType
from qosqueue.service import audit
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job
from qosqueue.store.session import Store

FIELDS = ("task", "lane", "model", "tenant", "attempts", "fence", "state")
ONLINE = "nobody waits for the answer of a synchronous request any more"


@dataclass(frozen=True)
class DeadLetter:
    """One message that is kept aside: its task, where it waited, whose it is, how many attempts it had, since when it
    is dead (ms since the epoch), and why, if the record knows."""

    task: str
    lane: str
    model: str
    tenant: str
    attempts: int
    fence: int
    died_ms: int
    why: str | None


class DeadLetters:
    """Lists and replays dead letters; raises BrokerUnavailable, StoreUnavailable."""

    def __init__(self, scripts: Scripts, record: JobRecord, store: Store) -> None:
        self._scripts = scripts
        self._client = scripts.client
        self._key = scripts.key
        self._record = record
        self._store = store

    def list(self, limit: int) -> list[DeadLetter]:
        """At most `limit` of them, the last to die first."""
        try:
            dead = cast(Any, self._client.zrange(f"{self._key}:dead", 0, limit - 1, desc=True, withscores=True))
            with self._client.pipeline(transaction=False) as pipe:
                for tag, _ in dead:
                    pipe.hmget(f"{self._key}:msg:{tag.decode()}", FIELDS)
                messages = pipe.execute()
        except redis.RedisError as error:
            raise BrokerUnavailable(f"dead letters cannot be read: {error}") from error
        # One may have been replayed or taken back since the first look.
        found = [(values, int(died)) for values, (_, died) in zip(messages, dead, strict=True) if values[0] is not None]
        errors = self._record.errors([values[0].decode() for values, _ in found])
        return [_letter(values, died_ms, errors) for values, died_ms in found]

    def replay(self, task: str, *, actor: str) -> DeadLetter:
        """Queue a dead letter again, as if it had just come; leaves an audit entry.

        Raises NotFound if there is none of that task, Conflict if its request cannot run again.
        """
        letter = self._find(task)
        job = self._record.find(task)
        if job is not None:
            self._requeue(job, letter.fence)
        with self._store.session() as session:
            before = {"status": JobStatus.FAILED, "why": letter.why}
            audit.append(
                session,
                actor=actor,
                action="job.replay",
                subject=task,
                before=before,
                after={"status": JobStatus.QUEUED},
            )
            session.flush()
            try:
                replayed = self._scripts.replay(task=task)
            except redis.RedisError as error:
                # The row waits, and its message is still dead or does so too: a second try does no harm.
                raise BrokerUnavailable(f"the broker did not answer: {error}; try again") from error
            if not replayed:
                raise Conflict(f"{task} is no dead letter any more: somebody else was first")
        return letter

    def _requeue(self, job: Job, fence: int) -> None:
        # Before the message: a worker that is quicker would find a final row, and settle the message for good.
        if job.task_type is TaskType.ONLINE:
            raise Conflict(f"job {job.id}: {ONLINE}")
        again_ms = now_ms()
        moved = self._record.move(
            job.id,
            JobEvent.REPLAYED,
            fence=fence,
            queued_ms=again_ms,
            expires_ms=again_ms + job.expires_ms - job.created_ms,
            error=None,
            worker=None,
            started_ms=None,
            first_token_ms=None,
            finished_ms=None,
        )
        if not moved and (status := self._record.status(job.id)) is not JobStatus.QUEUED:
            raise Conflict(f"job {job.id} is {status}: only a failed job is replayed")

    def _find(self, task: str) -> DeadLetter:
        try:
            tag = cast(Any, self._client.hget(f"{self._key}:tasks", task))
            died_ms, values = None, None
            if tag is not None:
                died_ms = cast(Any, self._client.zscore(f"{self._key}:dead", tag))
                values = cast(Any, self._client.hmget(f"{self._key}:msg:{tag.decode()}", FIELDS))
        except redis.RedisError as error:
            raise BrokerUnavailable(f"dead letters cannot be read: {error}") from error
        if died_ms is None or values is None or values[FIELDS.index("state")] != State.DEAD.encode():
            raise NotFound(f"no dead letter of {task!r}: `qosqueue queue dead` lists them")
        return _letter(values, int(died_ms), self._record.errors([task]))


def _letter(values: list[bytes], died_ms: int, errors: dict[str, dict[str, Any]]) -> DeadLetter:
    task, lane, model, tenant = (value.decode() for value in values[:4])
    error = errors.get(task)
    why = None if error is None else f"{error['code']}: {error['message']}"
    return DeadLetter(task, lane, model, tenant, int(values[4]), int(values[5]), died_ms, why)

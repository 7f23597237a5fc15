"""What was given up, why, and how does it run again?

A message whose last attempt lost its worker, or that a worker refused, is kept as a dead letter until it is replayed,
discarded or taken back. Its request has failed by then; a replay makes it wait again, with all its attempts and its
time to live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import redis
import structlog

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, Conflict, InvalidField, NotFound, StoreUnavailable
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.reference.message import State
from qosqueue.policy.terms import TaskType
from qosqueue.service import audit
from qosqueue.service.admission import Admission
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job
from qosqueue.store.session import Store

FIELDS = ("task", "lane", "model", "tenant", "attempts", "fence", "state")
MANY = 500
DAY_MS = 86_400_000
ONLINE = "nobody waits for the answer of a synchronous request any more"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeadLetter:
    """One message that is kept aside: its tag and task, where it waited, whose it is, how many attempts it had, since
    when it is dead (ms since the epoch), and why, if the record knows."""

    tag: str
    task: str
    lane: str
    model: str
    tenant: str
    attempts: int
    fence: int
    died_ms: int
    why: str | None


class DeadLetters:
    """Lists, replays and discards dead letters; raises BrokerUnavailable, StoreUnavailable."""

    def __init__(self, scripts: Scripts, record: JobRecord, store: Store, admission: Admission) -> None:
        self._scripts = scripts
        self._admission = admission
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
        found = [
            (tag.decode(), values, int(died))
            for values, (tag, died) in zip(messages, dead, strict=True)
            if values[0] is not None
        ]
        errors = self._record.errors([values[0].decode() for _, values, _ in found])
        return [_letter(tag, values, died_ms, errors) for tag, values, died_ms in found]

    def replay(self, name: str, *, actor: str) -> DeadLetter:
        """Queue a dead letter again, by its task or its tag, as if it had just come; leaves an audit entry.

        Raises NotFound if there is none of that name, Conflict if its request cannot run again or if it is not the
        last message of its task.
        """
        letter = self._find(name)
        task = letter.task
        if self._last_tag(task) != letter.tag:
            raise Conflict(f"{letter.tag} is not the last message of {task}: only that one is replayed, if it is dead")
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
        self._count_again(task)
        return letter

    def _count_again(self, task: str) -> None:
        # After its message waits: what a dead letter held would not lapse. The replay stands by now, counted or not.
        try:
            self._admission.count_again(self._record.open_jobs([task]))
        except (redis.RedisError, StoreUnavailable) as error:
            log.warning("what was replayed holds nothing of its quotas", task=task, error=str(error))

    def discard(self, name: str, *, actor: str) -> DeadLetter:
        """Forget a dead letter, by its task or its tag, and its payload for good; leaves an audit entry. A job's row
        keeps its error.

        Raises NotFound if there is none of that name, Conflict if it was replayed meanwhile.
        """
        letter = self._find(name)
        with self._store.session() as session:
            before = {"tag": letter.tag, "lane": letter.lane, "why": letter.why}
            audit.append(session, actor=actor, action="job.discard", subject=letter.task, before=before, after=None)
            session.flush()
            if not self._discarded(letter.tag):
                raise Conflict(f"{letter.task} is no dead letter any more: somebody else was first")
        return letter

    def discard_older(self, days: int, *, actor: str) -> int:
        """Forget those that died so many days ago or before; how many. If there are any, an audit entry comes first."""
        if days < 0:
            raise InvalidField("older_than_days", "a whole number from 0", days)
        dead = f"{self._key}:dead"
        try:
            until_ms = self._scripts.server_ms() - days * DAY_MS
            found = cast(Any, self._client.zcount(dead, "-inf", until_ms))
            if not found:
                return 0
            with self._store.session() as session:
                after = {"older_than_days": days, "found": found}
                audit.append(
                    session, actor=actor, action="queue.discard", subject="dead letters", before=None, after=after
                )
            discarded = 0
            while tags := cast(Any, self._client.zrangebyscore(dead, "-inf", until_ms, start=0, num=MANY)):
                discarded += sum(self._discarded(tag.decode()) for tag in tags)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the broker did not answer: {error}; try again") from error
        return discarded

    def _discarded(self, tag: str) -> bool:
        try:
            return self._scripts.discard(tag=tag) == 1
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the broker did not answer: {error}; try again") from error

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

    def _find(self, name: str) -> DeadLetter:
        """The dead letter that is the last message of a task, or has that tag."""
        letter = None if (last := self._last_tag(name)) is None else self._read(last)
        letter = letter or self._read(name)
        if letter is None:
            raise NotFound(f"no dead letter of {name!r}: `qosqueue queue dead` lists them")
        return letter

    def _last_tag(self, task: str) -> str | None:
        """The newest message of a task: only that one is known by its task."""
        try:
            tag = cast(Any, self._client.hget(f"{self._key}:tasks", task))
        except redis.RedisError as error:
            raise BrokerUnavailable(f"dead letters cannot be read: {error}") from error
        return None if tag is None else tag.decode()

    def _read(self, tag: str) -> DeadLetter | None:
        try:
            died_ms = cast(Any, self._client.zscore(f"{self._key}:dead", tag))
            values = cast(Any, self._client.hmget(f"{self._key}:msg:{tag}", FIELDS))
        except redis.RedisError as error:
            raise BrokerUnavailable(f"dead letters cannot be read: {error}") from error
        if died_ms is None or values[FIELDS.index("state")] != State.DEAD.encode():
            return None
        return _letter(tag, values, int(died_ms), self._record.errors([values[0].decode()]))


def _letter(tag: str, values: list[bytes], died_ms: int, errors: dict[str, dict[str, Any]]) -> DeadLetter:
    task, lane, model, tenant = (value.decode() for value in values[:4])
    error = errors.get(task)
    why = None if error is None else f"{error['code']}: {error['message']}"
    return DeadLetter(tag, task, lane, model, tenant, int(values[4]), int(values[5]), died_ms, why)

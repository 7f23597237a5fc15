"""How does an operator end all that waits in a lane, for good?

The record is written first, a slice of the lane at a time: what is cancelled there comes back with no reconciler, and a
worker that still meets its message finds nothing to begin. Then the messages leave the order, and what they held of
quotas goes with them. Whoever waits hears of it: of a job by its row, webhook or batch, of a synchronous request by a
word on its reply stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from pydantic_core import from_json

from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.task_message import request_of
from qosqueue.errors import BrokerUnavailable, InvalidField
from qosqueue.policy.terms import LANES
from qosqueue.service import audit
from qosqueue.service.fields import may_be_recorded, one_of
from qosqueue.store.job_record import JobRecord
from qosqueue.store.session import Store

AT_ONCE = 200
# In one answer to a page or program, which should take seconds at most: what is left is ended by the next one.
MOST_SLICES = 10
LONGEST_WHY = 200
RUNS = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Purged:
    """How far a purge has come: the lane, how many of its requests have ended, and how many it has still to look at."""

    lane: str
    ended: int
    left: int


@dataclass(frozen=True)
class _Waiting:
    """A message of the lane: its task, the fence of its last attempt, and where its client listens, if one waits."""

    task: str
    fence: int
    reply: str | None


class Purges:
    """Ends what waits in a lane of requests. Raises BrokerUnavailable, StoreUnavailable: what has ended by then stays
    so, and a second purge goes on."""

    def __init__(self, scripts: Scripts, record: JobRecord, store: Store) -> None:
        self._scripts = scripts
        self._client: Any = scripts.client
        self._record = record
        self._store = store
        self._outbox = Outbox(scripts)

    def purge(self, lane: str, *, actor: str, why: str = "") -> Iterator[Purged]:
        """End what waits in the lane now, the oldest first; tells after each slice how far it has come.

        What runs goes on, but for what begins while its slice is ended: that is told to stop. Each slice leaves an
        audit entry, or is not ended. Raises InvalidField, before anything is done.
        """
        if lane not in LANES:
            raise InvalidField("lane", one_of(LANES), lane)
        if len(why) > LONGEST_WHY or not may_be_recorded(why):
            raise InvalidField("why", f"at most {LONGEST_WHY} printable characters", why)
        return self._slices(lane, actor, why)

    def waiting(self, lane: str) -> int:
        """How many a purge would end now."""
        return _reached(lambda: int(self._client.zcard(self._arrivals(lane))))

    def _slices(self, lane: str, actor: str, why: str) -> Iterator[Purged]:
        # What comes meanwhile is not purged: else a lane in use would be purged for ever.
        left = self.waiting(lane)
        ended, stayed = 0, 0
        yield Purged(lane, 0, left)
        while left > 0:
            tags = self._tags(lane, stayed, min(AT_ONCE, left))
            if tags:
                ended += self._end(lane, self._read(tags), actor, why)
                stayed += self._still_there(lane, tags)
            left = left - len(tags) if tags else 0
            yield Purged(lane, ended, left)

    def _end(self, lane: str, slice_: Sequence[_Waiting], actor: str, why: str) -> int:
        """End some of what waits; how many have ended, or were told to."""
        told = f"An operator ended all that waited in lane {lane}{': ' if why else ''}{why}"
        error = {"status": 503, "code": "purged", "message": f"{told.rstrip('.')}.", "param": None, "by": actor}
        tasks = [each.task for each in slice_]
        if not tasks:
            return 0
        with self._store.session() as session:
            cancelled = self._record.cancel_waiting(session, tasks, error)
            after = {"requests": len(tasks), "jobs": len(cancelled), "why": why}
            audit.append(session, actor=actor, action="queue.purge", subject=lane, before=None, after=after)
        answers = _reached(lambda: self._withdraw(tasks))
        # On record these still ran: their lease was lost, and the record has not heard of it.
        late = [task for task, answer in zip(tasks, answers, strict=True) if answer == 1 and task not in cancelled]
        with self._store.session() as session:
            self._record.cancel_waiting(session, late, error, also_running=True)
        _reached(lambda: self._tell(slice_, answers, error))
        return sum(answer > 0 for answer in answers)

    def _withdraw(self, tasks: Sequence[str]) -> list[int]:
        answers = self._scripts.run([self._scripts.command("withdraw", task) for task in tasks])
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return [int(answer) for answer in answers]

    def _tell(self, slice_: Sequence[_Waiting], answers: Sequence[int], error: dict[str, Any]) -> None:
        writers = [
            # What began meanwhile speaks with the next fence, and would not be heard after a lower one.
            ReplyWriter(self._outbox, each.reply, each.task, each.fence + (answer == RUNS))
            for each, answer in zip(slice_, answers, strict=True)
            if each.reply is not None and answer
        ]
        for writer in writers:
            writer.write("failed", error, urgent=False)
        self._outbox.flush()
        for writer in writers:
            writer.check()

    def _tags(self, lane: str, start: int, count: int) -> list[str]:
        found = _reached(lambda: self._client.zrange(self._arrivals(lane), start, start + count - 1))
        return [tag.decode() for tag in found]

    def _still_there(self, lane: str, tags: Sequence[str]) -> int:
        scores = _reached(lambda: self._client.zmscore(self._arrivals(lane), tags))
        return sum(score is not None for score in scores)

    def _read(self, tags: Sequence[str]) -> list[_Waiting]:
        """The messages of these tags that are still there."""
        with self._client.pipeline(transaction=False) as pipe:
            for tag in tags:
                pipe.hmget(f"{self._scripts.key}:msg:{tag}", "task", "fence")
                pipe.get(f"{self._scripts.key}:body:{tag}")
            answers = _reached(pipe.execute)
        found = zip(answers[::2], answers[1::2], strict=True)
        return [_waiting(task, fence, body) for (task, fence), body in found if task and body]

    def _arrivals(self, lane: str) -> str:
        return f"{self._scripts.key}:arrivals:{lane}"


def _waiting(task: bytes, fence: bytes, body: bytes) -> _Waiting:
    try:
        request = request_of(from_json(body))
        reply = None if request is None else request["reply"]
    except (ValueError, KeyError, TypeError):
        reply = None  # no request of ours: it only goes
    return _Waiting(task.decode(), int(fence), reply)


def _reached(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except redis.RedisError as error:
        raise BrokerUnavailable(f"the broker did not answer: {error}; purge again to go on") from error

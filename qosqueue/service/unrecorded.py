"""Where is what ended while SQL was away? In a list of the broker's, until a sweep of the watchdog writes it down.

So it outlives the web process that knew of it. A row is taken off the list after it was written, and its id is unique:
whatever dies in between, it is on record once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import redis
import structlog
from sqlalchemy.exc import SQLAlchemyError

from qosqueue.broker.scripts import Scripts
from qosqueue.store.decisions import Decision, DecisionKind
from qosqueue.store.job_record import JobRecord

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ended:
    """A synchronous request that ended: its row, and what was decided about it."""

    row: dict[str, Any]
    decided: Sequence[Decision] = ()


class Unrecorded:
    """The list. `keep` is for the web processes, `record` for the watchdog."""

    def __init__(self, scripts: Scripts, record: JobRecord) -> None:
        self._client = scripts.client
        self._key = f"{scripts.key}:unrecorded"
        self._record = record

    def keep(self, ended: Sequence[Ended]) -> bool:
        """Put them onto the list; False if the broker does not take them, either."""
        try:
            self._client.rpush(self._key, *(json.dumps(asdict(each)) for each in ended))
        except redis.RedisError as error:
            log.warning("finished requests cannot wait in the broker", rows=len(ended), error=str(error))
            return False
        return True

    def record(self, limit: int) -> list[str]:
        """Write down the first of the list, at most so many; their ids.

        Raises StoreUnavailable or redis.RedisError: what was not taken off the list is written with a later sweep.
        """
        texts = cast("list[bytes]", self._client.lrange(self._key, 0, limit - 1))
        if not texts:
            return []
        ended = [_ended(text) for text in texts]
        try:
            insert(self._record, ended)
        except SQLAlchemyError:
            # One of them is written already, or is refused for another reason: that must not hold up the others.
            for each in ended:
                self._record_one(each)
        with self._client.pipeline(transaction=False) as pipe:
            for text in texts:
                pipe.lrem(self._key, 1, cast(Any, text))
            pipe.execute()
        return [each.row["id"] for each in ended]

    def _record_one(self, ended: Ended) -> None:
        try:
            insert(self._record, [ended])
        except SQLAlchemyError as error:
            if self._record.status(ended.row["id"]) is None:
                log.error("a finished request is dropped", request=ended.row["id"], error=first_line(error))


def insert(record: JobRecord, ended: Sequence[Ended]) -> None:
    """Write them down, in one transaction."""
    record.insert([each.row for each in ended], {each.row["id"]: each.decided for each in ended})


def first_line(error: Exception) -> str:
    """What an error of SQL says, without the statement."""
    return str(error).partition("\n")[0]


def _ended(text: bytes) -> Ended:
    kept = json.loads(text)
    decided = [Decision(DecisionKind(each["kind"]), each["at_ms"], each["facts"]) for each in kept["decided"]]
    return Ended(kept["row"], decided)

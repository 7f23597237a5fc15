"""How does an operator move one queued message?"""

from __future__ import annotations

from typing import Any, cast

import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, Conflict, InvalidField, NotFound
from qosqueue.policy.reference.message import State
from qosqueue.policy.terms import MAX_BUDGET_MS, PRIORITY_RANGES, TIERS, latency_class
from qosqueue.service import audit, decided
from qosqueue.service.fields import checked_whole
from qosqueue.store.job_record import JobRecord
from qosqueue.store.session import Store

LONGEST_BOOST_S = 86_400
ANY_PRIORITY = (0, 9)


class Reranks:
    """Moves what waits. A move leaves an audit entry, or is not made; raises BrokerUnavailable, StoreUnavailable."""

    def __init__(self, scripts: Scripts, record: JobRecord, store: Store) -> None:
        self._scripts = scripts
        self._record = record
        self._store = store

    def rerank(
        self,
        task: str,
        *,
        actor: str,
        priority: int | None = None,
        budget_ms: int | None = None,
        boost: int | None = None,
        boost_s: int | None = None,
    ) -> None:
        """Give a queued message another priority, start budget (ms from its arrival), or a boost for a time.

        A priority must be one of its tier; a boost may be any: it ends, and the message stays in its lane. `boost_s` 0
        ends a boost. Raises InvalidField, NotFound, and Conflict for a task that does not wait.
        """
        lane = self._lane_of_queued(task)
        if priority is not None:
            checked_whole("priority", priority, *_priorities_of(lane))
        if budget_ms is not None:
            checked_whole("budget_ms", budget_ms, 1, MAX_BUDGET_MS)
        if boost_s is not None:
            checked_whole("boost_s", boost_s, 0, LONGEST_BOOST_S)
        if boost is not None:
            checked_whole("boost", boost, *ANY_PRIORITY)
            if boost_s is None:
                raise InvalidField("boost_s", "for how long the boost counts, in seconds", None)
        elif boost_s:
            raise InvalidField("boost", "a priority, 0 to 9, for that time", None)
        given = {"priority": priority, "budget_ms": budget_ms, "boost": boost, "boost_s": boost_s}
        after = {field: value for field, value in given.items() if value is not None}
        if not after:
            raise InvalidField("rerank", "a priority, a budget or a boost", None)
        with self._store.session() as session:
            audit.append(session, actor=actor, action="job.rerank", subject=task, after=after)
            session.flush()
            try:
                moved = self._scripts.rerank(
                    task=task,
                    priority=priority,
                    budget_ms=budget_ms,
                    # A boost of no time ends the one that there is; which priority it names says nothing then.
                    boost=0 if boost_s == 0 else boost,
                    boost_ms=1000 * (boost_s or 0),
                )
            except redis.RedisError as error:
                raise BrokerUnavailable(f"the broker did not move the message: {error}") from error
            if not moved:
                raise Conflict(f"{task} does not wait any more: it was taken meanwhile")
        columns: dict[str, Any] = {} if priority is None else {"priority": priority}
        if budget_ms is not None:
            columns |= {"latency_budget_ms": budget_ms, "latency_class": latency_class(budget_ms)}
        self._record.amend(task, decided.reranked(after), **columns)

    def _lane_of_queued(self, task: str) -> str:
        client, key = self._scripts.client, self._scripts.key
        try:
            tag = cast(Any, client.hget(f"{key}:tasks", task))
            fields = ["lane", "state"]
            message = [None, None] if tag is None else cast(Any, client.hmget(f"{key}:msg:{tag.decode()}", fields))
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the queue cannot be read: {error}") from error
        lane, state = (None if value is None else value.decode() for value in message)
        if lane is None:
            status = self._record.status(task)
            if status is None:
                raise NotFound(f"no job {task!r}")
            raise Conflict(f"job {task} is {status}: only what waits can be moved")
        if state != State.QUEUED:
            told = "running" if state == State.LEASED else "a dead letter"
            raise Conflict(f"job {task} is {told}: only what waits can be moved")
        return str(lane)


def _priorities_of(lane: str) -> tuple[int, int]:
    """First and last priority of a lane's tier; a host project's own lane has no tier."""
    for tier in TIERS:
        if lane.startswith(f"{tier}."):
            allowed = PRIORITY_RANGES[tier]
            return allowed.first, allowed.last
    return ANY_PRIORITY

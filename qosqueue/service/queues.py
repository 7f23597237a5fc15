"""What waits where, and who serves it? For the operator's page, the CLI and waiting clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from qosqueue.broker.replicas import LiveReplica, Replicas
from qosqueue.broker.scripts import Scripts, row_parts, waiting_key
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.reference.message import Stand
from qosqueue.policy.terms import LANES, SYSTEM_LANE

DEAD_AT_MOST = 1_000


@dataclass(frozen=True)
class LaneView:
    """One lane now: messages queued, the longest wait among them (ms), attempts running, how many of the queued are
    relegated (too late for their budget), wait as batch for idle slots, or wait for their ETA, and how many of the
    newest 1,000 dead letters came from it."""

    lane: str
    depth: int
    oldest_wait_ms: int | None
    in_flight: int
    relegated: int
    batch: int
    later: int
    dead: int


@dataclass(frozen=True)
class Position:
    """Where one request is: `number` 1 is its tenant's next; `known` is False when the queue has no trace of it."""

    number: int | None
    known: bool
    dead: bool


class Queues:
    """Reads the order's keys; changes nothing. Raises BrokerUnavailable."""

    def __init__(self, scripts: Scripts, replicas: Replicas, *, stock_order: bool = False) -> None:
        # With the baseline's stock order a request leaves no trace in these keys.
        self._stock_order = stock_order
        self._scripts = scripts
        self._client = scripts.client
        self._key = scripts.key
        self._replicas = replicas

    def lanes(self) -> list[LaneView]:
        """Every lane, also the empty ones."""
        try:
            now_ms = self._scripts.server_ms()
            in_flight = {name[2:]: count for name, count in self._scripts.running().items() if name.startswith("l:")}
            depths, dead = self._depths(), self._dead()
            names = [*LANES, SYSTEM_LANE, *sorted({*depths, *dead} - {*LANES, SYSTEM_LANE})]
            return [
                self._lane(name, depths.get(name, Counter()), now_ms, in_flight.get(name, 0), dead[name])
                for name in names
            ]
        except redis.RedisError as error:
            raise BrokerUnavailable(f"queues cannot be read: {error}") from error

    def replicas(self) -> list[LiveReplica]:
        """Every replica whose worker was heard of lately."""
        return self._replicas.list()

    def position_of(self, task: str) -> Position:
        """Where a request waits; for a client that waits with it."""
        if self._stock_order:
            return Position(None, known=True, dead=False)
        try:
            tag = self._client.hget(f"{self._key}:tasks", task)
            if tag is None:
                return Position(None, known=False, dead=False)
            name = _text(tag)
            fields: Any = self._client.hmget(f"{self._key}:msg:{name}", ["lane", "model", "tenant", "stand", "state"])
            if fields[0] is None:
                return Position(None, known=False, dead=False)
            lane, model, tenant, stand, state = map(_text, fields)
            rank: Any = self._client.zrank(waiting_key(self._scripts.key, tenant, stand, (lane, model)), name)
        except redis.RedisError:
            # A client that waits is not told of a broker that is away for a moment: its answer may still come.
            return Position(None, known=True, dead=False)
        return Position(None if rank is None else rank + 1, known=True, dead=state == "dead")

    def _depths(self) -> dict[str, Counter[str]]:
        """By lane: how many wait, by stand."""
        depths: dict[str, Counter[str]] = {}
        rows: Any = self._client.hgetall(f"{self._key}:depth")
        for row, depth in rows.items():
            stand, lane, _ = row_parts(row)
            depths.setdefault(lane, Counter())[stand] += int(depth)
        return depths

    def _dead(self) -> Counter[str]:
        """By lane: how many dead letters are kept."""
        tags: Any = self._client.zrange(f"{self._key}:dead", 0, DEAD_AT_MOST - 1, desc=True)
        with self._client.pipeline(transaction=False) as pipe:
            for tag in tags:
                pipe.hget(f"{self._key}:msg:{_text(tag)}", "lane")
            return Counter(_text(lane) for lane in pipe.execute() if lane is not None)

    def _lane(self, name: str, depths: Counter[str], now_ms: int, in_flight: int, dead: int) -> LaneView:
        arrivals = f"{self._key}:arrivals:{name}"
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zcard(arrivals)
            pipe.zrange(arrivals, 0, 0, withscores=True)
            depth, oldest = pipe.execute()
        wait_ms = max(0, now_ms - int(oldest[0][1])) if oldest else None
        relegated, batch = depths[Stand.RELEGATED], depths[Stand.BATCH]
        later = max(0, depth - relegated - batch - depths[Stand.LIVE])
        return LaneView(name, depth, wait_ms, in_flight, relegated, batch, later, dead)


def _text(value: Any) -> str:
    return str(value, "utf-8")

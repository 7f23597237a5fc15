"""What waits where, and who serves it? For the operator's page, the CLI and waiting clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from qosqueue.broker.replicas import LiveReplica, Replicas
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.terms import LANES, SYSTEM_LANE


@dataclass(frozen=True)
class LaneView:
    """One lane now: messages queued, the longest wait among them (ms), attempts running, messages in its aging lane."""

    lane: str
    depth: int
    oldest_wait_ms: int | None
    in_flight: int
    aged: int


@dataclass(frozen=True)
class Place:
    """Where one request is: `position` 1 is next in its lane; `known` is False when the queue has no trace of it."""

    position: int | None
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
            seconds, micros = self._client.time()
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            in_flight = self._running()
            models = self._models()
            names = [*LANES, SYSTEM_LANE, *sorted(set(models) - {*LANES, SYSTEM_LANE})]
            return [self._lane(name, models.get(name, []), now_ms, in_flight[name]) for name in names]
        except redis.RedisError as error:
            raise BrokerUnavailable(f"queues cannot be read: {error}") from error

    def replicas(self) -> list[LiveReplica]:
        """Every replica whose worker was heard of lately."""
        return self._replicas.list()

    def place_of(self, task: str) -> Place:
        """Where a request waits; for a client that waits with it."""
        if self._stock_order:
            return Place(None, known=True, dead=False)
        try:
            tag = self._client.hget(f"{self._key}:tasks", task)
            if tag is None:
                return Place(None, known=False, dead=False)
            name = _text(tag)
            lane, model, state = self._client.hmget(f"{self._key}:msg:{name}", ["lane", "model", "state"])
            if lane is None or model is None:
                return Place(None, known=False, dead=False)
            rank: Any = self._client.zrank(f"{self._key}:ready:{_text(lane)}:{_text(model)}", name)
        except redis.RedisError:
            # A client that waits is not told of a broker that is away for a moment: its answer may still come.
            return Place(None, known=True, dead=False)
        return Place(None if rank is None else rank + 1, known=True, dead=state == b"dead")

    def _running(self) -> Counter[str]:
        tags = self._client.zrange(f"{self._key}:leases", 0, -1)
        with self._client.pipeline(transaction=False) as pipe:
            for tag in tags:
                pipe.hget(f"{self._key}:msg:{_text(tag)}", "lane")
            return Counter(_text(lane) for lane in pipe.execute() if lane is not None)

    def _models(self) -> dict[str, list[str]]:
        models: dict[str, list[str]] = {}
        for place in self._client.smembers(f"{self._key}:places"):
            lane, _, model = _text(place).partition(":")
            models.setdefault(lane, []).append(model)
        return models

    def _lane(self, name: str, models: list[str], now_ms: int, in_flight: int) -> LaneView:
        arrivals = f"{self._key}:arrivals:{name}"
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zcard(arrivals)
            pipe.zrange(arrivals, 0, 0, withscores=True)
            for model in models:
                pipe.zcard(f"{self._key}:aged:{name}:{model}")
            depth, oldest, *aged = pipe.execute()
        wait_ms = max(0, now_ms - int(oldest[0][1])) if oldest else None
        return LaneView(name, depth, wait_ms, in_flight, sum(aged))


def _text(value: Any) -> str:
    return str(value, "utf-8")

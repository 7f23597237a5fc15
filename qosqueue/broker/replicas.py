"""Which replicas are alive now? Each worker says so for itself, and what it does not repeat is forgotten.

One hash a replica, `{<group>}:replica:<worker>:<model>`, which expires unless it is told again; the set
`{<group>}:replicas` holds the hashes' keys. All times are the Redis server's, in ms since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis

from qosqueue.broker.scripts import milliseconds
from qosqueue.errors import BrokerUnavailable


class ReplicaState(StrEnum):
    """Loading its model, taking work, or finishing what it has."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True)
class Replica:
    """One loaded copy of a model, as its worker tells it. `gpu` is None on a CPU; `pid` is the worker's process."""

    worker: str
    model: str
    slots: int
    busy: int
    gpu: str | None
    state: ReplicaState
    pid: int


@dataclass(frozen=True)
class LiveReplica:
    """A replica that was heard of within its time to live, when it started and when it last spoke (server's ms)."""

    replica: Replica
    started_ms: int
    seen_ms: int
    seen_ms_ago: int


class Replicas:
    """The registry of one group on one Redis; raises BrokerUnavailable when Redis is away or refuses.

    A replica lives `ttl_ms` after its last heartbeat: beat at least three times in that.
    """

    def __init__(self, client: redis.Redis, group: str, ttl_ms: int = 15_000, key_prefix: str = "") -> None:
        self._client = client
        self._ttl_ms = ttl_ms
        self._hash_prefix = f"{key_prefix}{{{group}}}:replica:"
        self._index = f"{key_prefix}{{{group}}}:replicas"

    def register(self, replica: Replica) -> None:
        """Enter a replica that starts now, in place of what an earlier process of that name left."""
        self._write(replica, fresh=True)

    def heartbeat(self, replica: Replica) -> None:
        """Tell again all there is to tell. A replica that was forgotten (a long pause, an emptied Redis) is back."""
        self._write(replica, fresh=False)

    def withdraw(self, worker: str, model: str) -> None:
        """Take a replica out at once; one that is not there is no error."""
        key = self._key(worker, model)
        with self._reached():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.delete(key)
            pipeline.srem(self._index, key)
            pipeline.execute()

    def list(self) -> list[LiveReplica]:
        """The live replicas by worker and model."""
        with self._reached():
            keys = sorted(cast("set[bytes]", self._client.smembers(self._index)))
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            pipeline.time()
            *hashes, time = pipeline.execute()
            expired = [key for key, fields in zip(keys, hashes, strict=True) if not fields]
            if expired:
                # A replica that comes back between the two calls is out of the set until its next heartbeat.
                self._client.srem(self._index, *expired)
        now_ms = milliseconds(time)
        found = [_live(fields, now_ms) for fields in hashes if fields]
        return sorted(found, key=lambda live: (live.replica.worker, live.replica.model))

    def _write(self, replica: Replica, *, fresh: bool) -> None:
        key = self._key(replica.worker, replica.model)
        with self._reached():
            now_ms = milliseconds(self._client.time())
            pipeline = self._client.pipeline(transaction=True)
            if fresh:
                pipeline.delete(key)
            fields: dict[str, str | int] = {
                "worker": replica.worker,
                "model": replica.model,
                "slots": replica.slots,
                "busy": replica.busy,
                "gpu": replica.gpu or "",
                "state": replica.state,
                "pid": replica.pid,
                "seen_ms": now_ms,
            }
            pipeline.hset(key, mapping=cast("Any", fields))
            pipeline.hsetnx(key, "started_ms", str(now_ms))
            pipeline.pexpire(key, self._ttl_ms)
            pipeline.sadd(self._index, key)
            pipeline.execute()

    def _key(self, worker: str, model: str) -> str:
        return f"{self._hash_prefix}{worker}:{model}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the broker did not take the replica registry's command: {error}") from error


def _live(raw: dict[bytes, bytes], now_ms: int) -> LiveReplica:
    fields = {name.decode(): value.decode() for name, value in raw.items()}
    replica = Replica(
        worker=fields["worker"],
        model=fields["model"],
        slots=int(fields["slots"]),
        busy=int(fields["busy"]),
        gpu=fields["gpu"] or None,
        state=ReplicaState(fields["state"]),
        pid=int(fields["pid"]),
    )
    seen_ms = int(fields["seen_ms"])
    return LiveReplica(replica, int(fields["started_ms"]), seen_ms, max(0, now_ms - seen_ms))

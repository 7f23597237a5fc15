"""Does the registry show the replicas that live, and forget those that fell silent?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from qosqueue.broker.replicas import Replica, Replicas, ReplicaState
from qosqueue.errors import BrokerUnavailable
from tests.support.eventually import eventually

ONE = Replica("w1@host", "smollm2", slots=4, busy=0, gpu=None, state=ReplicaState.LOADING, pid=11)
TWO = Replica("w2@host", "vendor/model:8b", slots=2, busy=1, gpu="GPU-aaaa", state=ReplicaState.READY, pid=12)


def test_replicas_come_back_as_they_were_told(redis_client: redis.Redis) -> None:
    replicas = Replicas(redis_client, "g")
    replicas.register(TWO)
    replicas.register(ONE)
    assert [live.replica for live in replicas.list()] == [ONE, TWO]
    assert redis_client.exists("{g}:replica:w1@host:smollm2")
    assert redis_client.scard("{g}:replicas") == 2
    assert Replicas(redis_client, "other").list() == []


def test_a_heartbeat_changes_the_load_and_keeps_the_start(redis_client: redis.Redis) -> None:
    replicas = Replicas(redis_client, "g")
    replicas.register(ONE)
    started_ms = replicas.list()[0].started_ms
    eventually(lambda: replicas.list()[0].seen_ms_ago >= 5, within_s=2)
    replicas.heartbeat(replace(ONE, busy=3, state=ReplicaState.READY))
    (live,) = replicas.list()
    assert (live.replica.busy, live.replica.state) == (3, ReplicaState.READY)
    assert live.started_ms == started_ms
    assert live.seen_ms >= started_ms + 5


def test_times_are_the_servers(redis_client: redis.Redis) -> None:
    replicas = Replicas(redis_client, "g")
    before = _server_ms(redis_client)
    replicas.register(ONE)
    (live,) = replicas.list()
    assert before <= live.started_ms == live.seen_ms <= _server_ms(redis_client)


def test_a_restart_under_the_same_name_starts_anew(redis_client: redis.Redis) -> None:
    replicas = Replicas(redis_client, "g")
    replicas.register(ONE)
    first_ms = replicas.list()[0].started_ms
    eventually(lambda: replicas.list()[0].seen_ms_ago >= 2, within_s=2)
    replicas.register(replace(ONE, pid=99))
    (live,) = replicas.list()
    assert live.replica.pid == 99
    assert live.started_ms > first_ms


def test_a_silent_replica_is_forgotten_and_a_heartbeat_brings_it_back(redis_client: redis.Redis) -> None:
    replicas = Replicas(redis_client, "g", ttl_ms=50)
    replicas.register(ONE)
    eventually(lambda: replicas.list() == [], within_s=5)
    assert redis_client.scard("{g}:replicas") == 0
    replicas.heartbeat(ONE)
    assert [live.replica for live in replicas.list()] == [ONE]


def test_a_withdrawn_replica_is_gone_at_once(redis_client: redis.Redis) -> None:
    replicas = Replicas(redis_client, "g")
    replicas.register(ONE)
    replicas.register(TWO)
    replicas.withdraw(ONE.worker, ONE.model)
    replicas.withdraw(ONE.worker, ONE.model)
    assert [live.replica for live in replicas.list()] == [TWO]
    assert not redis_client.exists("{g}:replica:w1@host:smollm2")


def test_a_broker_that_is_away_is_said_so(tmp_path: Path) -> None:
    client = redis.Redis(unix_socket_path=str(tmp_path / "none.sock"))
    with pytest.raises(BrokerUnavailable):
        Replicas(client, "g").list()
    client.close()


def _server_ms(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000

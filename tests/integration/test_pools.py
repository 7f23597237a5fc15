"""Which slots does the order count on?"""

from __future__ import annotations

import pytest
import redis

from qosqueue.broker.replicas import Replica, Replicas, ReplicaState
from qosqueue.broker.scripts import Scripts
from qosqueue.service.pools import Pools

LOADING, READY, DRAINING = ReplicaState.LOADING, ReplicaState.READY, ReplicaState.DRAINING


@pytest.mark.parametrize(
    ("live", "slots"),
    [
        ([(READY, 4), (READY, 2)], 6),
        ([(READY, 1), (LOADING, 8), (DRAINING, 4)], 1),
        ([(LOADING, 4), (LOADING, 2), (DRAINING, 1)], 6),
        ([(DRAINING, 4)], None),
    ],
)
def test_slots_count_once_their_replica_is_ready(
    redis_client: redis.Redis, live: list[tuple[ReplicaState, int]], slots: int | None
) -> None:
    replicas, scripts = Replicas(redis_client, "g"), Scripts(redis_client, "g")
    for number, (state, count) in enumerate(live):
        replicas.register(Replica(f"w{number}", "m", count, busy=0, gpu=None, state=state, pid=1))
    replicas.register(Replica("w", "other", 3, busy=0, gpu=None, state=LOADING, pid=1))
    assert {model: terms["slots"] for model, terms in Pools(scripts, replicas).refresh().items()} == (
        {"other": 3} if slots is None else {"m": slots, "other": 3}
    )

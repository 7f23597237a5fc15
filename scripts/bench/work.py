"""What does every queue under measurement carry and run? Tasks that do nothing, and the keys on which they tell of it.

Only redis-py is needed: the programs of other task queues run this too, some in an environment without qosqueue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import redis

CONCURRENCY = 8
MODEL = "bench"
# The shape of what travels with a request: an id, a model, times, a short chat.
REQUEST = {
    "id": "job_0123456789abcdef01234567",
    "model": MODEL,
    "endpoint": "/v1/chat/completions",
    "created_ms": 1_790_000_000_000,
    "expires_ms": 1_790_000_060_000,
    "reply": "0123456789abcdef",
    "body": {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]},
}

STARTS = "bench:starts"  # a start of the task `stamp`: seconds since the epoch
GATES = "bench:gates"  # one entry for each task `hold` that runs
RELEASES = "bench:releases"  # one entry lets one `hold` end
DRAINED = "bench:drained"  # seconds from the first start of a `count` to the end of the last
BEGAN = "bench:began"  # where processes share one count: its first start
ENDED = "bench:ended"  # and how many have ended
HOLD_AT_MOST_S = 60


def tasks(client: redis.Redis) -> Iterator[Callable[..., None]]:
    """The tasks `stamp`, `hold` and `count`, for a worker of one process."""
    lock = threading.Lock()
    began_s: list[float] = []
    ended = 0

    def stamp() -> None:
        """Tell when it started."""
        client.rpush(STARTS, repr(time.time()))

    def hold() -> None:
        """Keep one thread busy until it is released."""
        hold_one(client)

    def count(total: int) -> None:
        """Do nothing; the last of `total` tells how long all of them took."""
        nonlocal ended
        with lock:
            if not began_s:
                began_s.append(time.perf_counter())
            ended += 1
            if ended < total:
                return
            took_s = time.perf_counter() - began_s.pop()
            ended = 0
        client.rpush(DRAINED, repr(took_s))

    yield from (stamp, hold, count)


def hold_one(client: redis.Redis) -> None:
    """The task `hold`."""
    client.rpush(GATES, "1")
    client.blpop([RELEASES], HOLD_AT_MOST_S)


def count_one(client: redis.Redis, total: int) -> None:
    """The task `count` for workers of many processes, which count on the server: one round trip, at the end two."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set(BEGAN, repr(time.time()), nx=True)
        pipeline.incr(ENDED)
        pipeline.get(BEGAN)
        _, ended, began_s = pipeline.execute()
    if ended == total:
        took_s = time.time() - float(began_s)
        client.delete(BEGAN, ENDED)
        client.rpush(DRAINED, repr(took_s))

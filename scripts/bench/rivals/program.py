"""What does the benchmark ask of another task queue's program?

    python -m scripts.bench.rivals.NAME submit COUNT   publish so many requests; prints messages a second
    python -m scripts.bench.rivals.NAME fill COUNT     hold every slot of the worker, then publish so many tasks
    python -m scripts.bench.rivals.NAME work           serve until SIGTERM

The environment's BENCH_REDIS_URL is a redis-py URL, with a Unix socket as in production. Imports nothing of qosqueue:
one rival runs in an environment of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Protocol

import redis

from scripts.bench.work import CONCURRENCY, GATES

URL_VARIABLE = "BENCH_REDIS_URL"
HELD_WITHIN_S = 60.0
LOOK_EVERY_S = 0.01
WARM_UP_DIVISOR = 4


class Rival(Protocol):
    """One task queue, as its documentation sets it up: acknowledged after the run, results not kept."""

    def submit(self, number: int) -> None:
        """Publish one request that no worker will take."""

    def hold(self) -> None:
        """Publish one task that keeps a slot."""

    def count(self, number: int, total: int) -> None:
        """Publish one of `total` tasks that do nothing."""

    def work(self) -> None:
        """Serve with `CONCURRENCY` slots until SIGTERM."""


def redis_url() -> str:
    """Where the broker is."""
    return os.environ[URL_VARIABLE]


def redis_client() -> redis.Redis:
    """A client for what the benchmark itself keeps there."""
    return redis.Redis.from_url(redis_url())


def run(rival: Rival, given: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the exit code."""
    command, *counts = sys.argv[1:] if given is None else given
    if command == "work":
        rival.work()
        return 0
    count = int(counts[0])
    if command == "submit":
        print(_submit_rate(rival, count))
        return 0
    if command == "fill":
        _fill(rival, count)
        return 0
    print(f"expected submit COUNT, fill COUNT or work, got {command!r}", file=sys.stderr)
    return 2


def _submit_rate(rival: Rival, count: int) -> float:
    for number in range(count // WARM_UP_DIVISOR):
        rival.submit(number)
    began_s = time.perf_counter()
    for number in range(count):
        rival.submit(number)
    return count / (time.perf_counter() - began_s)


def _fill(rival: Rival, count: int) -> None:
    client = redis_client()
    for _ in range(CONCURRENCY):
        rival.hold()
    give_up_s = time.monotonic() + HELD_WITHIN_S
    while client.llen(GATES) < CONCURRENCY:
        if time.monotonic() >= give_up_s:
            raise TimeoutError(f"the worker did not take {CONCURRENCY} tasks within {HELD_WITHIN_S:g} s")
        time.sleep(LOOK_EVERY_S)
    for number in range(count):
        rival.count(number, count)

"""How do our transport and the stock one compare, for a publisher and for a worker? Both on the same Redis."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import redis
from celery import Celery

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import FIFO_QUEUE, make_celery
from qosqueue.broker.envelope import qos_header
from qosqueue.errors import QosqueueError
from qosqueue.settings import Settings
from scripts.bench import bench_app
from scripts.bench.servers import log_of, process, until
from scripts.bench.work import CONCURRENCY, DRAINED, GATES, MODEL, RELEASES, REQUEST, STARTS

START_WITHIN_S = 30.0
DRAIN_WITHIN_S = 60.0
STARTS_WITHIN_S = 10.0
PRIORITY = 4
HEADER: dict[str, Any] = {
    "model": MODEL,
    "tenant": "ten_0123456789abcdef01234567",
    "organisation": "ten_0123456789abcdef01234567",
    "priority": PRIORITY,
    "batch": False,
    "budget_ms": 500,
    "cost_ms": 2_000,
    "ttl_ms": 60_000,
    "max_attempts": 3,
}


class Way:
    """One of the two transports: how a producer publishes, and what is left in its queue."""

    def __init__(self, settings: Settings) -> None:
        self.order = settings.order
        self.queue = FIFO_QUEUE if settings.order == "fifo" else bench_app.LANES[1]
        self._app: Celery = make_celery(settings)
        self._headers = None if settings.order == "fifo" else qos_header(**HEADER)

        self._nobody = self._app.task(name="bench.nobody")(_nobody)

    def send(self, task: str, *arguments: object) -> None:
        """Publish one of the worker's tasks."""
        self._app.send_task(f"bench.{task}", args=arguments, queue=self.queue, priority=PRIORITY, headers=self._headers)

    def publish_rate(self, count: int) -> float:
        """Publish `count` requests with apply_async that no worker takes; messages a second."""
        began = time.perf_counter()
        for _ in range(count):
            self._nobody.apply_async(args=[REQUEST], queue=self.queue, priority=PRIORITY, headers=self._headers)
        return count / (time.perf_counter() - began)

    def purge(self) -> None:
        """Drop what is queued."""
        with self._app.connection_for_write() as connection:
            connection.default_channel.queue_purge(self.queue)


@contextmanager
def workers(*of: Settings) -> Iterator[None]:
    """One worker for each of the settings, ready to take messages."""
    with ExitStack() as stack:
        for settings in of:
            name = f"worker-{settings.order}"
            stack.enter_context(
                process(
                    name,
                    [sys.executable, "-m", "scripts.bench.bench_app"],
                    settings,
                    extra={"QOSQUEUE_ORDER": settings.order},
                )
            )
        for settings in of:
            client = stack.enter_context(connect(settings))
            ready = bench_app.READY.format(order=settings.order)
            log = log_of(settings, f"worker-{settings.order}")
            until(partial(_exists, client, ready), START_WITHIN_S, "the worker's start", log)
        yield


def drain_rate(way: Way, client: redis.Redis, count: int) -> float:
    """Let a worker run `count` tasks that wait already; tasks a second, from the first start to the last end.

    Meanwhile eight other tasks hold its threads: it begins when they are released, not when the first is published.
    """
    for _ in range(CONCURRENCY):
        way.send("hold")
    until(lambda: client.llen(GATES) == CONCURRENCY, DRAIN_WITHIN_S, "holding the worker")
    for _ in range(count):
        way.send("count", count)
    client.delete(GATES)
    client.rpush(RELEASES, *["1"] * CONCURRENCY)
    return count / next_number(client, DRAINED, DRAIN_WITHIN_S)


def start_delays_ms(way: Way, client: redis.Redis, count: int, seed: int) -> list[float]:
    """Milliseconds from the call that publishes to the first line of the task, `count` times, on an idle worker."""
    chance = random.Random(seed)
    delays = []
    for _ in range(count):
        # At no fixed phase to the worker's own rounds; long enough for it to be idle again.
        time.sleep(chance.uniform(0.005, 0.015))
        began = time.time()
        way.send("stamp")
        delays.append((next_number(client, STARTS, STARTS_WITHIN_S) - began) * 1000)
    return delays


def _nobody(request: dict[str, Any]) -> None:
    """A task that is published and never run."""


def _exists(client: redis.Redis, key: str) -> bool:
    return bool(client.exists(key))


def next_number(client: redis.Redis, key: str, within_s: float) -> float:
    """The next number on a list; raises QosqueueError if none comes in time."""
    answer: Any = client.blpop([key], within_s)
    if answer is None:
        raise QosqueueError(f"nothing came on {key} within {within_s:g} s")
    return float(answer[1])

"""Dramatiq on its Redis broker: one process of eight threads, its default middleware, no results."""

from __future__ import annotations

import os
import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from scripts.bench.rivals.program import redis_client, redis_url, run
from scripts.bench.work import CONCURRENCY, REQUEST, tasks

BROKER = "scripts.bench.rivals.dramatiq_queue:broker"

broker = RedisBroker(url=redis_url())
_, _hold, _count = (dramatiq.actor(broker=broker)(task) for task in tasks(redis_client()))


def _nobody(request: dict[str, Any]) -> None:
    """Published and never run."""


_request = dramatiq.actor(broker=broker, queue_name="nobody")(_nobody)


class DramatiqQueue:
    """Dramatiq, which gives a message no priority of its own."""

    def submit(self, number: int) -> None:
        """Publish one request."""
        _request.send(REQUEST)

    def hold(self) -> None:
        """Publish one `hold`."""
        _hold.send()

    def count(self, number: int, total: int) -> None:
        """Publish one `count`."""
        _count.send(total)

    def work(self) -> None:
        """Become Dramatiq's own worker command, which imports this module's actors."""
        threads = ("--processes", "1", "--threads", str(CONCURRENCY), "--queues", "default")
        os.execv(sys.executable, [sys.executable, "-m", "dramatiq", BROKER, *threads])


if __name__ == "__main__":
    sys.exit(run(DramatiqQueue()))

"""RQ with its default worker, which forks for each job, eight of them in its own pool; no results are kept."""

from __future__ import annotations

import sys

from rq import Queue
from rq.worker_pool import WorkerPool

from scripts.bench.rivals.program import redis_client, run
from scripts.bench.work import CONCURRENCY, REQUEST, count_one, hold_one

MODULE = "scripts.bench.rivals.rq_queue"
QUEUE = "bench"

client = redis_client()


def hold() -> None:
    """Keep one worker busy."""
    hold_one(client)


def count(total: int) -> None:
    """Do nothing."""
    count_one(client, total)


class RqQueue:
    """RQ, whose priorities are queues in an order."""

    def __init__(self) -> None:
        self._queue = Queue(QUEUE, connection=client)
        self._nobody = Queue("nobody", connection=client)

    def submit(self, number: int) -> None:
        """Publish one request."""
        self._nobody.enqueue(f"{MODULE}.hold", REQUEST, result_ttl=0)

    def hold(self) -> None:
        """Publish one `hold`."""
        self._queue.enqueue(f"{MODULE}.hold", result_ttl=0)

    def count(self, number: int, total: int) -> None:
        """Publish one `count`."""
        self._queue.enqueue(f"{MODULE}.count", total, result_ttl=0)

    def work(self) -> None:
        """Serve with RQ's pool."""
        WorkerPool([QUEUE], connection=client, num_workers=CONCURRENCY).start(logging_level="WARNING")


if __name__ == "__main__":
    sys.exit(run(RqQueue()))

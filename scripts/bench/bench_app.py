"""Which Celery worker does the queue benchmark measure? `python -m scripts.bench.bench_app`: tasks that do nothing.

One task code on two transports: QOSQUEUE_ORDER=qos takes ours, fifo the stock one of Kombu. Both with threads, late
acknowledgement, prefetch 1 and no prefetching, configured by qosqueue's own make_celery.
"""

from __future__ import annotations

import sys
import threading
import time

from celery import Celery
from celery.apps.worker import Worker

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import FIFO_QUEUE, make_celery
from qosqueue.broker.leases import LeaseTable
from qosqueue.settings import Settings, load_settings

CONCURRENCY = 8
MODEL = "bench"
LANES = ("vip.light", "standard.light", "basic.light")

READY = "bench:ready:{order}"
STARTS = "bench:starts"  # a start of the task `stamp`: seconds since the epoch
GATES = "bench:gates"  # one entry for each task `hold` that runs
RELEASES = "bench:releases"  # one entry lets one `hold` end
DRAINED = "bench:drained"  # seconds from the first start of a `count` to the end of the last
HOLD_AT_MOST_S = 60


def register_tasks(app: Celery, settings: Settings) -> None:
    """The tasks `stamp`, `hold` and `count`."""
    client = connect(settings, socket_timeout_s=None)
    lock = threading.Lock()
    began_s: list[float] = []
    ended = 0

    def stamp() -> None:
        """Tell when it started."""
        client.rpush(STARTS, repr(time.time()))

    def hold() -> None:
        """Keep one thread busy until it is released."""
        client.rpush(GATES, "1")
        client.blpop([RELEASES], HOLD_AT_MOST_S)

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

    for task in (stamp, hold, count):
        app.task(name=f"bench.{task.__name__}")(task)


def main() -> int:
    """Serve until SIGTERM."""
    settings = load_settings()
    fifo = settings.order == "fifo"
    table = LeaseTable(
        lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity={MODEL: CONCURRENCY}
    )
    app = make_celery(settings, lease_table=None if fifo else table)
    register_tasks(app, settings)
    worker = Worker(
        app=app,
        hostname=f"bench-{settings.order}@localhost",
        pool="threads",
        concurrency=CONCURRENCY,
        queues=[FIFO_QUEUE] if fifo else list(LANES),
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    with connect(settings) as client:
        client.set(READY.format(order=settings.order), "1")
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())

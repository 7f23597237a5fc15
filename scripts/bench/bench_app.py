"""Which Celery worker does the queue benchmark measure? `python -m scripts.bench.bench_app`: tasks that do nothing.

One task code on two transports: QOSQUEUE_ORDER=qos takes ours, fifo the stock one of Kombu. Both with threads, late
acknowledgement, prefetch 1 and no prefetching, configured by qosqueue's own make_celery.
"""

from __future__ import annotations

import sys

from celery.apps.worker import Worker

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import FIFO_QUEUE, make_celery
from qosqueue.broker.leases import LeaseTable
from qosqueue.settings import load_settings
from scripts.bench.work import CONCURRENCY, MODEL, tasks

LANES = ("vip.light", "standard.light", "basic.light")
READY = "bench:ready:{order}"


def main() -> int:
    """Serve until SIGTERM."""
    settings = load_settings()
    fifo = settings.order == "fifo"
    table = LeaseTable(
        lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity={MODEL: CONCURRENCY}
    )
    app = make_celery(settings, lease_table=None if fifo else table)
    for task in tasks(connect(settings, socket_timeout_s=None)):
        app.task(name=f"bench.{task.__name__}")(task)
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

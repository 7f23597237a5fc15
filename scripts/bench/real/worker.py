"""Which Celery worker serves in real time? `python -m scripts.bench.real.worker WAY NAME SLOTS FOLDER`, until SIGTERM.

Its only task is a declared simulation: it holds its thread for the request's service time, and computes nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from celery import signals
from celery.apps.worker import Worker

from qosqueue.broker.address import connect
from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.replicas import Replica, Replicas, ReplicaState
from qosqueue.settings import load_settings
from scripts.bench.policies.interface import MODEL
from scripts.bench.real.journal import Journal
from scripts.bench.real.ways import QOSQUEUE, TASK, lanes, make_app

READY = "bench:ready"
REPLICA_KEPT_MS = 3_600_000


def main(way: str, name: str, slots: int, folder: Path) -> int:
    """Serve; the exit code."""
    settings = load_settings()
    table = None
    if way == QOSQUEUE:
        table = LeaseTable(
            lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity={MODEL: slots}
        )
    app = make_app(way, settings, table)
    journal, over = Journal(folder), threading.Event()

    def occupy(number: int, service_ms: int) -> None:
        journal.note("started", number)
        if not over.wait(service_ms / 1000):
            journal.note("ended", number)

    def ready(**_: object) -> None:
        with connect(settings) as client:
            replica = Replica(name, MODEL, slots, busy=0, gpu=None, state=ReplicaState.READY, pid=os.getpid())
            Replicas(client, settings.group, REPLICA_KEPT_MS).register(replica)
            client.sadd(READY, name)

    def stopping(**_: object) -> None:
        over.set()

    app.task(name=TASK)(occupy)
    signals.worker_ready.connect(ready)
    signals.worker_shutting_down.connect(stopping)
    worker = Worker(
        app=app,
        hostname=f"{name}@localhost",
        pool="threads",
        concurrency=slots,
        queues=lanes(way),
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))

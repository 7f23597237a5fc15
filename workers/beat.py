"""`python -m qosqueue_workers.beat`: run the watchdog, that is beat and the worker of the system lane.

They share one process: what beat sends, the worker beside it runs, and no inference thread is ever taken for it.
Several may run; RedBeat's lock lets one of them beat.
"""

from __future__ import annotations

import socket
import sys

from celery.apps.worker import Worker
from celery.beat import EmbeddedService

from qosqueue.broker.celery_app import make_celery
from qosqueue.errors import QosqueueError
from qosqueue.policy.terms import SYSTEM_LANE
from qosqueue.settings import load_settings
from qosqueue.telemetry.logs import log_to_stderr
from qosqueue.wiring import build
from qosqueue_workers.watchdog import register_tasks, schedule

BEAT_STOPS_WITHIN_S = 3.0


def main() -> int:
    """Exit code 0 after a clean stop, 1 with one line when the watchdog cannot run."""
    try:
        settings = load_settings()
        log_to_stderr(settings.log_level)
        services = build(settings)
    except QosqueueError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        return 1
    app = make_celery(settings, beat_schedule=schedule(settings), redbeat_lock_timeout=5)
    register_tasks(app, services.watchdog)
    beat = EmbeddedService(
        app, thread=True, scheduler_cls="redbeat.RedBeatScheduler", max_interval=min(1.0, settings.sweep_ms / 1000)
    )
    worker = Worker(
        app=app,
        hostname=f"watchdog@{socket.gethostname()}",
        pool="threads",
        concurrency=2,
        queues=[SYSTEM_LANE],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    beat.start()
    try:
        worker.start()
    finally:
        # Beat's own stop waits without end for a lock that a lost broker can no longer take back.
        beat.service.stop(wait=False)
        beat.join(BEAT_STOPS_WITHIN_S)
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())

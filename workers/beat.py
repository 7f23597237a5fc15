"""`python -m qosqueue_workers.beat`: run the watchdog, that is beat and the worker of the system lane.

They share one process: what beat sends, the worker beside it runs, and no inference thread is ever taken for it.
Several may run; RedBeat's lock lets one of them beat.
"""

from __future__ import annotations

import socket
import sys
import threading

import structlog
from celery import Celery
from celery.apps.worker import Worker
from celery.beat import Service

from qosqueue.broker.celery_app import make_celery
from qosqueue.errors import QosqueueError
from qosqueue.policy.terms import SYSTEM_LANE
from qosqueue.settings import Settings, load_settings
from qosqueue.telemetry.logs import log_to_stderr
from qosqueue.wiring import build
from qosqueue_workers.watchdog import register_tasks, schedule

BEAT_STOPS_WITHIN_S = 3.0

START_AGAIN_S = 1.0
LOCK_S = 5

log = structlog.get_logger(__name__)


class Beat:
    """Celery's beat in a thread. It ends when the broker is away or its lock went to another: then it starts again."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._max_interval_s = min(1.0, settings.sweep_ms / 1000)
        self._closed = threading.Event()
        self._service: Service | None = None
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and let the lock go; does not wait without end for a lock that a lost broker cannot take."""
        self._closed.set()
        if self._service is not None:
            self._service.stop()
        self._thread.join(BEAT_STOPS_WITHIN_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._service = Service(
                self._app,
                scheduler_cls="redbeat.RedBeatScheduler",
                max_interval=self._max_interval_s,
                remote_control=False,
            )
            try:
                self._service.start()
            except Exception as error:
                log.error("beat ended", error=repr(error), starts_again_in_s=START_AGAIN_S)
                self._closed.wait(START_AGAIN_S)


def main() -> int:
    """Exit code 0 after a clean stop, 1 with one line when the watchdog cannot run."""
    try:
        settings = load_settings()
        log_to_stderr(settings.log_level)
        services = build(settings)
    except QosqueueError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        return 1
    app = make_celery(settings, beat_schedule=schedule(settings), redbeat_lock_timeout=LOCK_S)
    register_tasks(app, services.watchdog)
    return serve_with_beat(app, settings, "watchdog", SYSTEM_LANE, concurrency=3)


def serve_with_beat(app: Celery, settings: Settings, name: str, lane: str, concurrency: int) -> int:
    """Serve a lane with threads, and run the app's schedule beside them, until told to stop; the exit code."""
    beat = Beat(app, settings)
    worker = Worker(
        app=app,
        hostname=f"{name}@{socket.gethostname()}",
        pool="threads",
        concurrency=concurrency,
        queues=[lane],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    beat.start()
    try:
        worker.start()
    finally:
        beat.stop()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())

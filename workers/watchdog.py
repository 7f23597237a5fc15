"""When does the watchdog run? Celery tasks in the system lane, on a schedule that beat keeps in Redis."""

from __future__ import annotations

from typing import Any

from celery import Celery

from qosqueue.policy.terms import SYSTEM_LANE
from qosqueue.service.watchdog import Watchdog
from qosqueue.settings import Settings

REAP_TASK = "qosqueue.watchdog.reap"
AGE_TASK = "qosqueue.watchdog.age"


def register_tasks(app: Celery, watchdog: Watchdog) -> None:
    """The watchdog's tasks; each run leaves a record, read with `qosqueue watchdog list`."""

    @app.task(name=REAP_TASK)
    def reap() -> None:
        watchdog.reap()

    @app.task(name=AGE_TASK)
    def age() -> None:
        watchdog.age()


def schedule(settings: Settings) -> dict[str, Any]:
    """Celery's `beat_schedule`. A run that could not start before the next one is due is dropped."""
    period_s = settings.sweep_ms / 1000
    return {
        name: {"task": name, "schedule": period_s, "options": {"queue": SYSTEM_LANE, "expires": period_s}}
        for name in (REAP_TASK, AGE_TASK)
    }

"""When does the watchdog run? Celery tasks in the system lane, on a schedule that beat keeps in Redis."""

from __future__ import annotations

from typing import Any

from celery import Celery

from qosqueue.policy.terms import SYSTEM_LANE
from qosqueue.service.watchdog import Watchdog
from qosqueue.settings import Settings

REAP_TASK = "qosqueue.watchdog.reap"
AGE_TASK = "qosqueue.watchdog.age"
LEARN_TASK = "qosqueue.watchdog.learn"
# Budgets drift slowly: a sweep need not look each time.
LEARN_EVERY_S = 5.0
RECONCILE_TASK = "qosqueue.watchdog.reconcile"
# It looks at many rows, for something that is rare.
SWEEPS_TO_RECONCILE = 5


def register_tasks(app: Celery, watchdog: Watchdog) -> None:
    """The watchdog's tasks; each run leaves a record, read with `qosqueue watchdog list`."""

    @app.task(name=REAP_TASK)
    def reap() -> None:
        watchdog.reap()

    @app.task(name=AGE_TASK)
    def age() -> None:
        watchdog.age()

    @app.task(name=LEARN_TASK)
    def learn() -> None:
        watchdog.learn()

    @app.task(name=RECONCILE_TASK)
    def reconcile() -> None:
        watchdog.reconcile()


def schedule(settings: Settings) -> dict[str, Any]:
    """Celery's `beat_schedule`. A run that could not start before the next one is due is dropped."""
    sweep_s = settings.sweep_ms / 1000
    periods_s = {REAP_TASK: sweep_s, AGE_TASK: sweep_s, LEARN_TASK: max(sweep_s, LEARN_EVERY_S)}
    if settings.order != "fifo":  # there a queued request leaves no trace that could be looked for
        periods_s[RECONCILE_TASK] = SWEEPS_TO_RECONCILE * sweep_s
    return {
        name: {"task": name, "schedule": period_s, "options": {"queue": SYSTEM_LANE, "expires": period_s}}
        for name, period_s in periods_s.items()
    }

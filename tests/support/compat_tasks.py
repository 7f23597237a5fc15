"""Which tasks does a stranger's Celery project have? Ordinary ones, on an app that `configure` put into the order."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from time import monotonic, time
from typing import Any

from celery import Celery

from qosqueue.celery import configure

GROUP, LEASE_MS = "compat", 1_500
GATE_WITHIN_S = 30.0


def make_app(url: str) -> Celery:
    """The project's app on the broker and result backend at `url`."""
    app = Celery("compat", set_as_current=False)
    app.conf.update(
        broker_url=url,
        result_backend=url,
        task_acks_late=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    configure(app, group=GROUP, lease_ms=LEASE_MS)
    for task in (add, total, hold, at):
        app.task(name=task.__name__, shared=False)(task)
    app.task(name="fail_twice", shared=False, bind=True, autoretry_for=(ValueError,), default_retry_delay=0)(fail_twice)
    app.task(name="again_later", shared=False, bind=True)(again_later)
    return app


def add(first: int, second: int) -> int:
    """A sum of two."""
    return first + second


def total(numbers: list[int]) -> int:
    """A sum of many."""
    return sum(numbers)


def at() -> float:
    """When this ran, in seconds since the epoch."""
    return time()


def hold(folder: str, name: str) -> str:
    """Write down that it began, and run until somebody makes the file `<name>.end`."""
    with Path(folder, "began").open("a") as began:
        began.write(f"{name}\n")
    until = monotonic() + GATE_WITHIN_S
    while not Path(folder, f"{name}.end").exists() and monotonic() < until:
        Event().wait(0.01)
    return name


def fail_twice(task: Any) -> int:
    """Fails until its third try; the number of tries that failed."""
    if task.request.retries < 2:
        raise ValueError("not yet")
    return int(task.request.retries)


def again_later(task: Any, countdown_s: float) -> tuple[int, float]:
    """Asks for a second try in `countdown_s`; the retries and when the last try ran."""
    if task.request.retries == 0:
        raise task.retry(countdown=countdown_s)
    return task.request.retries, time()

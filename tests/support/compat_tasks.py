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


def make_app(url: str, result_backend: str | None = None, **options: Any) -> Celery:
    """The project's app on the broker at `url`, where results are too; `options` are those of `configure`."""
    app = Celery("compat", set_as_current=False)
    app.conf.update(
        broker_url=url,
        result_backend=result_backend or url,
        task_acks_late=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    configure(app, group=GROUP, lease_ms=LEASE_MS, **options)
    for task in (add, total, hold, at):
        app.task(name=task.__name__, shared=False)(task)
    app.task(name="fail_twice", shared=False, bind=True, autoretry_for=(ValueError,), default_retry_delay=0)(fail_twice)
    for task in (whose, sends_another, whose_again):
        app.task(name=task.__name__, shared=False, bind=True)(task)
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


def whose(task: Any, *_: Any) -> dict[str, Any] | None:
    """What its header says, whatever it was called with."""
    return task.request.get("qos")


def sends_another(task: Any, tenant: str | None = None) -> str:
    """The id of a task `whose` that it sends as usual, or for a tenant of its own."""
    headers = {"qos": {"tenant": tenant}} if tenant else {}
    return str(task.app.tasks["whose"].apply_async(headers=headers).id)


def whose_again(task: Any, *_: Any) -> dict[str, Any] | None:
    """What the header of its second try says."""
    if task.request.retries == 0:
        raise task.retry(countdown=0)
    return task.request.get("qos")

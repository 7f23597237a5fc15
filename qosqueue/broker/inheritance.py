"""Whose is a task that another task sends? The same tenant's, unless its own header says otherwise.

Celery sends the next step of a chain, a callback, the members and the body of a chord, and whatever a task sends with
`delay`, without the headers of the task that is running.
"""

from __future__ import annotations

from typing import Any

from celery import current_task
from celery.signals import before_task_publish

from qosqueue.broker.envelope import HEADER

# What says whose work it is and how urgent; cost, model and attempts are those of one task.
INHERITED = ("tenant", "organisation", "priority", "budget_ms", "batch", "ttl_ms")


def inherit_headers() -> None:
    """Let every task that this process sends from within a task inherit; called twice it does the same."""
    before_task_publish.connect(_inherit, weak=False, dispatch_uid=__name__)


def _inherit(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is None or HEADER in headers or not current_task:
        return
    qos = getattr(current_task.request, HEADER, None)
    if isinstance(qos, dict):
        # A retry is the same task again.
        again = headers.get("id") == current_task.request.id
        headers[HEADER] = qos if again else {field: qos[field] for field in INHERITED if field in qos}

"""What does the transport have to know of Celery: which tasks run on, and who waits for a task that was revoked?"""

from __future__ import annotations

from typing import Any

from celery import Celery, current_app
from celery.app.task import Context
from celery.exceptions import WorkerLostError
from celery.worker import state

from qosqueue.broker.ends import Ends
from qosqueue.broker.revocation import Revocation


class CelerySide:
    """The Celery app behind a connection; without one, the app that is current.

    It is an option of the transport, so it has to survive what Celery does with those: `inspect stats` writes them as
    JSON, and a pool with the start method `spawn` pickles them (the app is then the child's own).
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._app = app
        self.untold = Ends()

    def __json__(self) -> str:
        return type(self).__name__

    def __reduce__(self) -> tuple[type[CelerySide], tuple[()]]:
        return CelerySide, ()

    def runs_on(self, task: str) -> bool:
        """Whether this process's worker goes on with a task whose channel was closed.

        When a connection is lost, Celery finishes what has begun and forgets what it had only reserved or kept for its
        ETA. When the worker stops, its pool may still begin what was reserved: then all is kept until the process ends.
        """
        stopping = any(asked not in (None, False) for asked in (state.should_stop, state.should_terminate))
        return stopping or any(request.id == task for request in tuple(state.active_requests))

    def acks_late(self) -> bool:
        """Whether tasks are acknowledged when they have ended, so that a lease's length tells what they take."""
        return bool((self._app or current_app).conf.task_acks_late)

    def mark_revoked(self, revocation: Revocation, why: str = "revoked") -> None:
        """Store REVOKED for a task that no worker will ever meet, and tell its chord: whoever waits hears of it."""
        self._backend().mark_as_revoked(revocation.task, why, **_told(revocation))

    def mark_lost(self, revocation: Revocation, why: str) -> None:
        """Store FAILURE for a task that is kept as a dead letter, and tell its chord, chain and errbacks."""
        self._backend().mark_as_failure(revocation.task, WorkerLostError(why), **_told(revocation))

    def _backend(self) -> Any:
        return (self._app or current_app).backend


def _told(revocation: Revocation) -> dict[str, Any]:
    body = revocation.body
    embedded: dict[str, Any] = body[2] if isinstance(body, list) and len(body) == 3 else {}
    context = Context({**revocation.headers, **embedded})
    return {"request": context, "store_result": not revocation.headers.get("ignore_result")}

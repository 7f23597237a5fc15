"""How is a Celery app with ten priorities set up, on whatever transport, as its documentation has it?"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.apps.worker import Worker

from scripts.bench.rivals.program import redis_client, redis_url
from scripts.bench.work import CONCURRENCY, REQUEST, tasks

PRIORITIES = 10


class CeleryQueue:
    """One queue whose messages are spread over the priorities. Late acknowledgement, prefetch 1, no results."""

    def __init__(self, **conf: Any) -> None:
        self._app = Celery("bench", set_as_current=False)
        self._app.conf.update(
            broker_connection_retry_on_startup=True,
            task_ignore_result=True,
            task_acks_late=True,
            worker_prefetch_multiplier=1,
            worker_hijack_root_logger=False,
            **conf,
        )

    def submit(self, number: int) -> None:
        """Publish one request."""
        self._app.send_task("bench.nobody", args=[REQUEST], priority=number % PRIORITIES)

    def hold(self) -> None:
        """Publish one `hold`."""
        self._app.send_task("bench.hold")

    def count(self, number: int, total: int) -> None:
        """Publish one `count`."""
        self._app.send_task("bench.count", args=[total], priority=number % PRIORITIES)

    def work(self) -> None:
        """Serve with threads, as qosqueue's own workers do."""
        for task in tasks(redis_client()):
            self._app.task(name=f"bench.{task.__name__}")(task)
        worker = Worker(
            app=self._app,
            pool="threads",
            concurrency=CONCURRENCY,
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
        worker.start()


def socket_url(scheme: str) -> str:
    """The broker in Kombu's words: `SCHEME:///absolute/socket` for a Unix socket, else unchanged."""
    url = redis_url()
    return f"{scheme}://{url.removeprefix('unix://')}" if url.startswith("unix://") else url

"""What becomes of a withdrawal that the broker did not take? It is tried again, until Redis has answered."""

from __future__ import annotations

import threading

import redis
import structlog

from qosqueue.broker.scripts import Scripts

AT_MOST = 10_000
RETRY_S = 0.5

log = structlog.get_logger(__name__)


class Withdrawals:
    """One thread withdraws what nobody waits for any more. What is lost with the process ends by its time to live."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        # In the order in which they came; a task that is here twice needs to go only once.
        self._tasks: dict[str, None] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, task: str) -> None:
        """Withdraw a task soon. Beyond AT_MOST the oldest is given up, and the log says so."""
        with self._changed:
            self._tasks[task] = None
            if len(self._tasks) > AT_MOST:
                oldest = next(iter(self._tasks))
                del self._tasks[oldest]
                log.error("a withdrawal is given up: the broker has been away for too long", request=oldest)
            if self._thread is None:
                # Not before it is needed: gunicorn forks after the wiring.
                self._thread = threading.Thread(target=self._run, name="withdrawals", daemon=True)
                self._thread.start()
            self._changed.notify()

    def waiting(self) -> int:
        """How many are still to be taken."""
        with self._changed:
            return len(self._tasks)

    def close(self, timeout_s: float = 2.0) -> None:
        """Try once more what waits, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._closing)
                self._changed.wait_for(lambda: self._closing, timeout=RETRY_S)
                tasks, closing = list(self._tasks), self._closing
            self._withdraw(tasks)
            if closing:
                return

    def _withdraw(self, tasks: list[str]) -> None:
        for task in tasks:
            try:
                self._scripts.withdraw(task=task)
            except redis.RedisError as error:
                log.warning("withdrawals wait for the broker", waiting=self.waiting(), error=str(error))
                return
            with self._changed:
                self._tasks.pop(task, None)
            log.info("a request was withdrawn late", request=task)

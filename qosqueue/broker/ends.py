"""Who hears of tasks that ended in the queue, if the result backend is away for a moment?

What has ended is gone from the queue: its end is kept here, in the process that swept it, until it was told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

MOST_UNTOLD = 5_000
# Each may take as long as a time-out of the backend, and the consumer waits for it.
FAILURES_AT_ONCE = 3

log = structlog.get_logger(__name__)


class Ends:
    """The ends that one process has to tell, the last MOST_UNTOLD of them, oldest first."""

    def __init__(self) -> None:
        self._untold: deque[tuple[str, Callable[[], None]]] = deque()

    def add(self, task: str, tell: Callable[[], None]) -> None:
        """Let `tell` be called with the next `tell_all`, and again with later ones until it has not raised."""
        if len(self._untold) >= MOST_UNTOLD:
            lost, _ = self._untold.popleft()
            log.error("whoever waits for a task will never be told of its end: too many are untold", task=lost)
        self._untold.append((task, tell))

    def tell_all(self) -> bool:
        """Tell each once; False if that failed too often to go on. What fails takes its turn behind the others."""
        failures = 0
        for _ in range(len(self._untold)):
            task, tell = self._untold.popleft()
            try:
                tell()
            except Exception as error:
                # A result backend that is away must not keep lost leases from running again.
                log.warning("whoever waits for a task is told of its end later", task=task, error=repr(error))
                self._untold.append((task, tell))
                failures += 1
                if failures == FAILURES_AT_ONCE:
                    return False
        return True

"""How does a worker hear that a running request was taken back? On one channel of the broker, at once.

A word that is missed while the connection is down is heard with the next renewal of the lease.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis
import structlog

LISTEN_S = 1.0

log = structlog.get_logger(__name__)


class Cancellations:
    """Calls `stop(task id, reason)` for each request that is taken back, from a thread of its own."""

    def __init__(self, connect: Callable[[], redis.Redis], group: str, stop: Callable[[str, str], None]) -> None:
        self._connect = connect
        self._channel = f"{{{group}}}:cancel"
        self._stop = stop
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cancellations", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._thread.join(2 * LISTEN_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except redis.RedisError as error:
                log.warning("cancellations cannot be heard now", error=str(error))
                self._closed.wait(LISTEN_S)

    def _listen(self) -> None:
        with redis.client.PubSub(self._connect().connection_pool, ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(self._channel)
            while not self._closed.is_set():
                message = subscription.get_message(timeout=LISTEN_S)
                if message is not None:
                    self._stop(message["data"].decode(), "cancelled")

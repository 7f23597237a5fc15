"""How does a worker take requests without Celery's task machinery? Threads that take turns at waiting for a message.

Whoever waits and gets a message runs it itself, and the next thread waits in its place: nothing is handed from thread
to thread while a client waits. All of them share one connection, one lease table and its slots with Celery's consumer.
While the lane is alive it reserves the models' places; when it has died the consumer serves them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog

from qosqueue.broker.leases import LeaseTable, receipt_of
from qosqueue.broker.picks import Picks
from qosqueue.broker.wire import packed_commands
from qosqueue.policy.reference.message import Delivery, Nothing, Place

BLOCK_S = 1.0
# Longer than a wait for a message takes: a lane that does not come round in this time is dead or stuck.
RESERVED_S = 3.0
RETRY_S = 0.2

log = structlog.get_logger(__name__)


class FastLane:
    """`threads` threads that pick from `lanes` what the table has a slot for, and call `serve` with each delivery.

    `connection` is a connection of redis-py for the lane alone, whose socket time-out exceeds BLOCK_S. `serve` runs
    and settles; each delivery is held in the table before.
    """

    def __init__(
        self,
        connection: Any,
        picks: Picks,
        table: LeaseTable,
        lanes: Sequence[str],
        serve: Callable[[Delivery], None],
        threads: int,
    ) -> None:
        self._connection = connection
        self._picks = picks
        self._table = table
        self._lanes = lanes
        self._serve = serve
        self._armed: frozenset[str] = frozenset()
        self._block_s = BLOCK_S
        self._freed = threading.Event()
        self._closing = threading.Event()
        self._turn = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"fast-lane-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to serve."""
        self._table.watch(self._slot_freed)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Take no more messages; what runs goes on."""
        self._closing.set()
        self._freed.set()
        self._wake()

    def join(self) -> None:
        """Return once nothing runs any more."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self) -> None:
        while (delivery := self._next()) is not None:
            try:
                self._serve(delivery)
            except Exception:
                # Its lease runs out, and it is tried again elsewhere or kept as a dead letter.
                log.exception("a message could not be served", task=delivery.task, fence=delivery.fence)
                self._table.release(receipt_of(delivery))

    def _next(self) -> Delivery | None:
        """The next message, held; None once the lane is closed."""
        with self._turn:
            try:
                while not self._closing.is_set():
                    self._table.reserve(RESERVED_S)
                    places = self._listen()
                    delivery = self._wait(places) if places else None
                    if delivery is not None and not self._closing.is_set():
                        return delivery
                    if delivery is not None:
                        self._table.settle(receipt_of(delivery), "requeue")
            except Exception:
                log.exception("the fast lane has died: Celery's consumer serves in its place")
                self._closing.set()
                self._table.reserve(0)
            finally:
                self._armed = frozenset()
                self._table.stop_listening(self)
        return None

    def _listen(self) -> list[Place]:
        """Every place with a free slot, which is kept for this lane; if there is none, none, once one was freed."""
        self._freed.clear()
        self._armed = self._table.listen(self, self._table.capacity)
        if not self._armed:
            self._freed.wait(BLOCK_S)
        elif not self._freed.is_set():
            # From here on a slot that is freed, and not listened for, ends the wait.
            return [(lane, model) for lane in self._lanes for model in sorted(self._armed)]
        return []

    def _wait(self, places: list[Place]) -> Delivery | None:
        connection = self._connection
        try:
            packed = packed_commands(self._picks.wait(places, self._block_s))
            connection.send_packed_command([packed], check_health=False)
            _, picked = self._picks.answer(lambda _: connection.read_response(), lambda: places)
        except redis.RedisError as error:
            connection.disconnect()
            if not self._closing.is_set():
                log.warning("the fast lane cannot reach the broker", error=str(error))
            self._closing.wait(RETRY_S)
            return None
        if isinstance(picked, Nothing):
            self._block_s = BLOCK_S if picked.retry_after_ms is None else min(BLOCK_S, picked.retry_after_ms / 1000)
            return None
        self._block_s = BLOCK_S
        self._table.hold(picked, self)
        return picked

    def _slot_freed(self, model: str) -> None:
        if model in self._armed:
            return
        self._freed.set()
        if self._armed:
            self._wake()

    def _wake(self) -> None:
        try:
            self._picks.wake()
        except redis.RedisError as error:
            log.warning("the pending wait is not woken: it ends by itself", error=str(error))

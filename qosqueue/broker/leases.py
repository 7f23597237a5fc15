"""Which attempts does this process hold, and for how long?

One table per process and group, with its own thread and connection: it renews every lease and settles what ended,
even after the channel that delivered the message was closed. The table is also the process's account of slots:
what is held counts against the capacity of its model.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

import redis
import structlog

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.reference.message import Delivery

Outcome = Literal["done", "requeue"]
RENEWALS_PER_LEASE = 3
LOST, CANCELLED = 0, 2

log = structlog.get_logger(__name__)


class LeaseTable:
    """The attempts that this process runs.

    `capacity` says how many attempts of each model may be held at once; a model that it does not name has no limit
    of its own. `on_stop` is called with a task id, from the table's thread, when an attempt must end early: its
    lease was lost, or its tenant cancelled it.
    """

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        group: str,
        *,
        lease_ms: int,
        capacity: Mapping[str, int] | None = None,
        on_stop: Callable[[str, str], None] | None = None,
    ) -> None:
        self.lease_ms = lease_ms
        self.capacity = dict(capacity or {})
        self._on_stop = on_stop or (lambda task, reason: None)
        self._scripts = Scripts(connect(), group)
        self._held: dict[str, Delivery] = {}
        self._unsettled: list[tuple[str, int, Outcome]] = []
        self._told: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def hold(self, delivery: Delivery) -> None:
        """Take note of a lease that the dispatch script just gave to this process."""
        with self._changed:
            self._held[delivery.tag] = delivery
            if self._thread is None:
                # Started with the first lease, not before: a prefork parent must not fork with a running thread.
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
                atexit.register(self.give_back)

    def held(self, tag: str) -> Delivery | None:
        """The delivery under a tag, while this process holds it."""
        return self._held.get(tag)

    def has_slot(self, model: str) -> bool:
        """Whether one more attempt of a model fits beside those that are held."""
        limit = self.capacity.get(model)
        if limit is None:
            return True
        with self._changed:
            return sum(1 for delivery in self._held.values() if delivery.model == model) < limit

    def settle(self, tag: str, outcome: Outcome) -> None:
        """End an attempt. If Redis is away now, the table goes on trying; a stale fence settles nothing."""
        with self._changed:
            delivery = self._held.pop(tag, None)
            self._told.discard(tag)
        if delivery is None:
            return
        try:
            self._settle(tag, delivery.fence, outcome)
        except redis.RedisError as error:
            log.warning("settle is put off", tag=tag, outcome=outcome, error=str(error))
            with self._changed:
                self._unsettled.append((tag, delivery.fence, outcome))
                self._changed.notify()

    def give_back(self) -> None:
        """Stop renewing and put what is still held back into the queue, at its old place: the process ends."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        for tag in list(self._held):
            self.settle(tag, "requeue")

    def _run(self) -> None:
        interval_s = self.lease_ms / 1000 / RENEWALS_PER_LEASE
        due_s = time.monotonic() + interval_s
        while True:
            with self._changed:
                wait_s = due_s - time.monotonic()
                if self._unsettled:
                    wait_s = min(wait_s, 0.5)
                if wait_s > 0 and not self._closed:
                    self._changed.wait(wait_s)
                if self._closed:
                    return
            try:
                self._settle_what_waits()
                if time.monotonic() >= due_s:
                    self._renew()
                    due_s = time.monotonic() + interval_s
            except redis.RedisError as error:
                log.warning("leases cannot be renewed now", error=str(error), held=len(self._held))
                due_s = time.monotonic() + min(interval_s, 0.5)

    def _renew(self) -> None:
        with self._changed:
            leases = [(delivery.tag, delivery.fence) for delivery in self._held.values()]
        if not leases:
            return
        for (tag, _), answer in zip(leases, self._scripts.renew(lease_ms=self.lease_ms, leases=leases), strict=True):
            if answer in (LOST, CANCELLED):
                self._tell(tag, "lease lost" if answer == LOST else "cancelled")

    def _tell(self, tag: str, reason: str) -> None:
        with self._changed:
            delivery = self._held.get(tag)
            if delivery is None or tag in self._told:
                return
            self._told.add(tag)
        log.warning("an attempt must stop", task=delivery.task, fence=delivery.fence, reason=reason)
        self._on_stop(delivery.task, reason)

    def _settle_what_waits(self) -> None:
        while self._unsettled:
            self._settle(*self._unsettled[0])
            with self._changed:
                self._unsettled.pop(0)

    def _settle(self, tag: str, fence: int, outcome: Outcome) -> None:
        if self._scripts.settle(tag=tag, fence=fence, outcome=outcome) == LOST:
            log.warning("a late settle was refused", tag=tag, fence=fence, outcome=outcome)


_tables: dict[tuple[str, str], LeaseTable] = {}
_tables_lock = threading.Lock()


def table_of_process(url: str, group: str, connect: Callable[[], redis.Redis], lease_ms: int) -> LeaseTable:
    """The table of this process for one group on one Redis, made when it is first asked for."""
    with _tables_lock:
        return _tables.setdefault((url, group), LeaseTable(connect, group, lease_ms=lease_ms))

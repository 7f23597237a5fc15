"""Which attempts does this process hold, and for how long?

One table per process and group, with its own thread and connection: it renews every lease and settles what ended,
even after the channel that delivered the message was closed. The table is also the process's account of slots:
what is held counts against the capacity of its model.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import redis
import structlog

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.reference.message import Delivery

Outcome = Literal["done", "requeue", "dead"]
RENEWALS_PER_LEASE = 3
LOST, CANCELLED = 0, 2
GRACE_S = 1.0
LEASE_LOST = "lease lost"

log = structlog.get_logger(__name__)


class LeaseTable:
    """The attempts that this process runs.

    `capacity` says how many attempts of each model may be held at once; a model that it does not name has no limit
    of its own. `on_stop` is called with a task id, a reason and a fence, from the table's thread, when an attempt
    must end early: its lease was lost (LEASE_LOST), or its tenant cancelled it.

    Each attempt has its own receipt: a process that lost a lease may be given the same message again while its
    first attempt still runs, and what ends the first must not settle the second.
    """

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        group: str,
        *,
        lease_ms: int,
        capacity: Mapping[str, int] | None = None,
        on_stop: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self.lease_ms = lease_ms
        self.capacity = dict(capacity or {})
        self._on_stop = on_stop or (lambda task, reason, fence: None)
        self._scripts = Scripts(connect(), group)
        self._held: dict[str, Delivery] = {}
        self._unsettled: list[tuple[str, int, Outcome]] = []
        self._told: set[str] = set()
        self._idle: list[tuple[float, tuple[str, ...], Callable[[str], bool]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._pid = os.getpid()

    def __json__(self) -> dict[str, object]:
        """What `celery inspect stats` shows of it, among the options of the transport."""
        return {"held": len(self._held), "capacity": self.capacity}

    def hold(self, delivery: Delivery) -> None:
        """Take note of a lease that the dispatch script just gave to this process."""
        with self._changed:
            self._held[receipt_of(delivery)] = delivery
            if self._thread is None:
                # Started with the first lease, not before: a prefork parent must not fork with a running thread.
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
                atexit.register(self.give_back)

    def held(self, receipt: str) -> Delivery | None:
        """The delivery under a receipt, while this process holds it."""
        return self._held.get(receipt)

    def has_slot(self, model: str) -> bool:
        """Whether one more attempt of a model fits beside those that are held."""
        limit = self.capacity.get(model)
        if limit is None:
            return True
        with self._changed:
            return sum(1 for delivery in self._held.values() if delivery.model == model) < limit

    def settle(self, receipt: str, outcome: Outcome) -> None:
        """End an attempt. If Redis is away now, the table goes on trying; a stale fence settles nothing."""
        with self._changed:
            delivery = self._held.pop(receipt, None)
            self._told.discard(receipt)
        if delivery is None:
            return
        try:
            self._settle(delivery.tag, delivery.fence, outcome)
        except redis.RedisError as error:
            log.warning("settle is put off", receipt=receipt, outcome=outcome, error=str(error))
            with self._changed:
                self._unsettled.append((delivery.tag, delivery.fence, outcome))
                self._changed.notify()

    def give_back_idle(self, receipts: Iterable[str], runs_on: Callable[[str], bool]) -> None:
        """Put back what nobody works on, soon: an attempt may just be about to begin, or to be settled."""
        with self._changed:
            self._idle.append((time.monotonic() + GRACE_S, tuple(receipts), runs_on))
            self._changed.notify()

    def give_back(self) -> None:
        """Stop renewing and put what is still held back into the queue, at its old place: the process ends."""
        if os.getpid() != self._pid:
            return  # a forked child ends: the leases are its parent's
        with self._changed:
            self._closed = True
            self._changed.notify()
        for receipt in list(self._held):
            self.settle(receipt, "requeue")
        try:
            self._settle_what_waits()
        except redis.RedisError as error:
            # Their leases end by themselves: what had ended runs once more, and its late result is refused.
            log.error("leases are left to run out", unsettled=len(self._unsettled), error=str(error))

    def _run(self) -> None:
        interval_s = self.lease_ms / 1000 / RENEWALS_PER_LEASE
        due_s = time.monotonic() + interval_s
        while True:
            with self._changed:
                wait_s = due_s - time.monotonic()
                if self._unsettled:
                    wait_s = min(wait_s, 0.5)
                if self._idle:
                    wait_s = min(wait_s, self._idle[0][0] - time.monotonic())
                if wait_s > 0 and not self._closed:
                    self._changed.wait(wait_s)
                if self._closed:
                    return
            try:
                if time.monotonic() >= due_s:
                    self._renew()
                    due_s = time.monotonic() + interval_s
                self._settle_what_waits()
                self._give_back_what_is_idle()
            except redis.RedisError as error:
                log.warning("leases cannot be renewed now", error=str(error), held=len(self._held))
                due_s = min(due_s, time.monotonic() + min(interval_s, 0.5))
            except Exception:
                # The thread must live: without it every attempt of this process would lose its lease.
                log.exception("the lease table goes on after a fault")
                due_s = time.monotonic() + min(interval_s, 0.5)

    def _renew(self) -> None:
        with self._changed:
            held = list(self._held.values())
        if not held:
            return
        leases = [(delivery.tag, delivery.fence) for delivery in held]
        for delivery, answer in zip(held, self._scripts.renew(lease_ms=self.lease_ms, leases=leases), strict=True):
            if answer in (LOST, CANCELLED):
                self._tell(delivery, LEASE_LOST if answer == LOST else "cancelled")

    def _tell(self, delivery: Delivery, reason: str) -> None:
        receipt = receipt_of(delivery)
        with self._changed:
            if receipt not in self._held or receipt in self._told:
                return
            self._told.add(receipt)
        log.warning("an attempt must stop", task=delivery.task, fence=delivery.fence, reason=reason)
        try:
            self._on_stop(delivery.task, reason, delivery.fence)
        except Exception:
            # The other leases must be renewed all the same.
            log.exception("an attempt could not be told to stop", task=delivery.task, fence=delivery.fence)

    def _settle_what_waits(self) -> None:
        while self._unsettled:
            first = self._unsettled[0]
            self._settle(*first)
            with self._changed:
                if first in self._unsettled:
                    self._unsettled.remove(first)

    def _give_back_what_is_idle(self) -> None:
        while self._idle and self._idle[0][0] <= time.monotonic():
            with self._changed:
                _, receipts, runs_on = self._idle.pop(0)
            for delivery in filter(None, map(self.held, receipts)):
                if not runs_on(delivery.task):
                    self.settle(receipt_of(delivery), "requeue")

    def _settle(self, tag: str, fence: int, outcome: Outcome) -> None:
        if self._scripts.settle(tag=tag, fence=fence, outcome=outcome) == LOST:
            log.warning("a late settle was refused", tag=tag, fence=fence, outcome=outcome)


def receipt_of(delivery: Delivery) -> str:
    """What names one attempt in this process: Kombu's delivery tag of it."""
    return f"{delivery.tag}:{delivery.fence}"


_tables: dict[tuple[int, str, str], LeaseTable] = {}
_tables_lock = threading.Lock()


def table_of_process(url: str, group: str, connect: Callable[[], redis.Redis], lease_ms: int) -> LeaseTable:
    """The table of this process for one group on one Redis, made when it is first asked for."""
    with _tables_lock:
        # A forked child has none of its parent's leases, and no thread that renews them.
        key = os.getpid(), url, group
        if key not in _tables:
            _tables[key] = LeaseTable(connect, group, lease_ms=lease_ms)
        return _tables[key]

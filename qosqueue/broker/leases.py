"""Which attempts does this process hold, and for how long?

One table per process and group, with its own thread and connection: it renews every lease and settles what ended,
even after the channel that delivered the message was closed. The table is also the process's account of slots:
what is held counts against the capacity of its model, and so does what somebody listens for and may be given soon.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping

import redis
import structlog

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.reference.message import Delivery, Outcome

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
        key_prefix: str = "",
    ) -> None:
        self.lease_ms = lease_ms
        self.capacity = dict(capacity or {})
        self._on_stop = on_stop or (lambda task, reason, fence: None)
        self._scripts = Scripts(connect(), group, key_prefix)
        self._held: dict[str, Delivery] = {}
        self._kept: dict[Hashable, tuple[str, ...]] = {}
        self._reserved_until_s = 0.0
        self._most: dict[str, int] = {}
        self._back_until_s: dict[str, float] = {}
        self._watchers: list[Callable[[str], None]] = []
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

    def hold(self, delivery: Delivery, listener: Hashable = None) -> None:
        """Take note of a lease that the dispatch script just gave to this process, and to that listener."""
        with self._changed:
            self._kept.pop(listener, None)
            self._held[receipt_of(delivery)] = delivery
            if self._thread is None:
                # Started with the first lease, not before: a prefork parent must not fork with a running thread.
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
                atexit.register(self.give_back)

    def held(self, receipt: str) -> Delivery | None:
        """The delivery under a receipt, while this process holds it."""
        return self._held.get(receipt)

    def has_slot(self, model: str, listener: Hashable = None) -> bool:
        """Whether one more attempt of a model fits beside those that are held, or that others listen for."""
        with self._changed:
            return self._fits(model, self._taken(listener))

    def listen(self, listener: Hashable, models: Iterable[str]) -> frozenset[str]:
        """Which of `models` has a slot for this listener. They are kept for it until it holds, listens anew or stops.

        Several may wait for the same model, each on its own connection: so they can never be given more than fits.
        """
        with self._changed:
            taken = self._taken(listener)
            found = frozenset(model for model in models if self._fits(model, taken))
            self._kept[listener] = tuple(found)
            return found

    def stop_listening(self, listener: Hashable) -> None:
        """Nothing will be given to this listener any more."""
        with self._changed:
            self._kept.pop(listener, None)

    def reserve(self, for_s: float) -> None:
        """The models with a capacity are somebody's own (the fast lane's) for so long; 0 gives them back."""
        self._reserved_until_s = time.monotonic() + for_s

    def let_run(self, model: str, most: int | None) -> None:
        """Hold at most so many attempts of a model, whatever its capacity; None: as many as that says."""
        with self._changed:
            if most is None:
                self._most.pop(model, None)
            else:
                self._most[model] = most
        if most != 0:
            self._tell_freed(model)

    def stand_back(self, model: str, for_s: float) -> None:
        """Take nothing of a model for so long: another process is to have it first."""
        with self._changed:
            self._back_until_s[model] = time.monotonic() + for_s

    def open_models(self) -> tuple[str, ...]:
        """The models that nobody in this process has reserved; the empty one (no model) is always among them."""
        return ("",) if time.monotonic() < self._reserved_until_s else ("", *self.capacity)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with a model each time a slot of it was freed, from the thread that freed it."""
        self._watchers.append(watcher)

    def release(self, receipt: str) -> Delivery | None:
        """Let go of an attempt whose settling is the caller's; None if it is not held. Its slot is free at once."""
        with self._changed:
            delivery = self._held.pop(receipt, None)
            self._told.discard(receipt)
        if delivery is not None:
            self._tell_freed(delivery.model)
        return delivery

    def settle(self, receipt: str, outcome: Outcome) -> None:
        """End an attempt. If Redis is away now, the table goes on trying; a stale fence settles nothing."""
        delivery = self.release(receipt)
        if delivery is None:
            return
        try:
            self._settle(delivery.tag, delivery.fence, outcome)
        except redis.RedisError as error:
            self.put_off(delivery, outcome, error)

    def put_off(self, delivery: Delivery, outcome: Outcome, error: Exception) -> None:
        """Settle an attempt that is released when Redis is back."""
        log.warning("settle is put off", receipt=receipt_of(delivery), outcome=outcome, error=str(error))
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

    def _taken(self, listener: Hashable) -> Counter[str]:
        """Slots by model that are held or kept for other listeners; the lock is held."""
        taken = Counter(delivery.model for delivery in self._held.values())
        for other, models in self._kept.items():
            if other != listener:
                taken.update(models)
        return taken

    def _fits(self, model: str, taken: Counter[str]) -> bool:
        if time.monotonic() < self._back_until_s.get(model, 0.0):
            return False
        limits = (self.capacity.get(model), self._most.get(model))
        return all(limit is None or taken[model] < limit for limit in limits)

    def _tell_freed(self, model: str) -> None:
        for watcher in self._watchers:
            watcher(model)

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
            _, receipts, runs_on = self._idle[0]
            for delivery in filter(None, map(self.held, receipts)):
                if not runs_on(delivery.task):
                    self.settle(receipt_of(delivery), "requeue")
            with self._changed:
                del self._idle[0]

    def _settle(self, tag: str, fence: int, outcome: Outcome) -> None:
        if self._scripts.settle(tag=tag, fence=fence, outcome=outcome) == LOST:
            log.warning("a late settle was refused", tag=tag, fence=fence, outcome=outcome)


def receipt_of(delivery: Delivery) -> str:
    """What names one attempt in this process: Kombu's delivery tag of it."""
    return f"{delivery.tag}:{delivery.fence}"


_tables: dict[tuple[int, str, str, tuple[tuple[str, int], ...]], LeaseTable] = {}
_tables_lock = threading.Lock()


def table_of_process(
    url: str,
    group: str,
    connect: Callable[[], redis.Redis],
    lease_ms: int,
    key_prefix: str = "",
    models: Mapping[str, int] | None = None,
) -> LeaseTable:
    """The table of this process for one group on one Redis, made when it is first asked for.

    `models` is its capacity; apps of one process that serve other models have each a table of their own.
    """
    with _tables_lock:
        # A forked child has none of its parent's leases, and no thread that renews them.
        key = os.getpid(), url, f"{key_prefix}{group}", tuple(sorted((models or {}).items()))
        if key not in _tables:
            _tables[key] = LeaseTable(connect, group, lease_ms=lease_ms, capacity=models, key_prefix=key_prefix)
        return _tables[key]

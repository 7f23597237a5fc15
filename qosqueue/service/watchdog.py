"""What does the watchdog do in one sweep, and what does it leave on record?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sqlalchemy import delete, func, insert, select

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.lifecycle import JobEvent
from qosqueue.policy.profile import STARVES_AFTER_MS
from qosqueue.policy.reference.message import Reaped
from qosqueue.policy.terms import TIERS, WEIGHT_CLASSES, lane_name
from qosqueue.service.attempts import Attempts
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from qosqueue.store.session import Store
from qosqueue.store.tables import WatchdogRunRow

AT_ONCE = 500
AGED_AT_MOST = 100
KEEP_RUNS = 5_000

EXHAUSTED = {
    "status": 500,
    "code": "attempts_exhausted",
    "message": "Every attempt ended with the loss of its worker; the job is kept as a dead letter.",
    "param": None,
}
# A row that still waits so long after its time to live has lost its message: it gets its answer from here.
OVERDUE_AFTER_MS = 60_000


@dataclass(frozen=True)
class WatchdogRun:
    """One run: its task, when it began (ms since the epoch), how long it took (µs), what it did."""

    task: str
    started_ms: int
    duration_us: int
    outcome: dict[str, Any]


class Watchdog:
    """Reaps lost leases, expires what is past its time to live, lets what starves into the aging lanes."""

    def __init__(self, scripts: Scripts, store: Store, record: JobRecord, attempts: Attempts) -> None:
        self._scripts = scripts
        self._store = store
        self._record = record
        self._attempts = attempts
        self._untold: list[Callable[[], object]] = []
        self._telling = threading.Lock()

    def reap(self) -> WatchdogRun:
        """Requeue lost leases; tell the record what died, expired or was withdrawn."""
        return self._run("reap", self._reap)

    def age(self) -> WatchdogRun:
        """Lift what waited too long for its tier, the oldest of each lane first."""
        return self._run("age", self._age)

    def runs(self, limit: int) -> list[WatchdogRun]:
        """The last runs, newest first."""
        with self._store.session() as session:
            rows = session.scalars(select(WatchdogRunRow).order_by(WatchdogRunRow.id.desc()).limit(limit))
            return [WatchdogRun(row.task, row.started_ms, row.duration_us, row.outcome) for row in rows]

    def _reap(self) -> dict[str, Any]:
        # What the queue lets go of must be told to the record: while that is away, let go of nothing.
        self._store.ping()
        with self._telling:
            reaped = self._scripts.reap(limit=AT_ONCE)
            # What the order has forgotten must reach the record, if need be with a later sweep.
            self._untold += self._moves(reaped)
            while self._untold:
                self._untold[0]()
                self._untold.pop(0)
        overdue = self._record.overdue(now_ms() - OVERDUE_AFTER_MS, AT_ONCE)
        for job_id in overdue:
            self._attempts.expire(job_id)
        return asdict(reaped) | {"overdue": overdue}

    def _moves(self, reaped: Reaped) -> list[Callable[[], object]]:
        lost = [
            # With its fence: by now the next attempt may have begun, and must not look queued.
            partial(self._record.move, job_id, JobEvent.LEASE_LOST, fence=fence)
            for job_id, fence in zip(reaped.requeued, reaped.fences, strict=True)
        ]
        dead = [
            partial(self._record.move, job_id, JobEvent.ERRORED, finished_ms=now_ms(), error=EXHAUSTED)
            for job_id in reaped.dead
        ]
        expired = [partial(self._attempts.expire, job_id) for job_id in reaped.expired]
        withdrawn = [
            partial(self._record.move, job_id, JobEvent.CANCEL, finished_ms=now_ms()) for job_id in reaped.withdrawn
        ]
        return [*lost, *dead, *expired, *withdrawn]

    def _age(self) -> dict[str, Any]:
        lifted: dict[str, Any] = {}
        for tier in TIERS:
            for weight in WEIGHT_CLASSES:
                lane = lane_name(tier, weight)
                tasks = self._scripts.rerank(lane=lane, starves_after_ms=STARVES_AFTER_MS[tier], limit=AGED_AT_MOST)
                if tasks:
                    lifted[lane] = tasks
        return {"lifted": lifted}

    def _run(self, task: str, work: Callable[[], dict[str, Any]]) -> WatchdogRun:
        started_ms, begin_ns = now_ms(), time.perf_counter_ns()
        outcome = work()
        run = WatchdogRun(task, started_ms, (time.perf_counter_ns() - begin_ns) // 1000, outcome)
        with self._store.session() as session:
            session.execute(insert(WatchdogRunRow), [asdict(run)])
            newest = session.scalar(select(func.max(WatchdogRunRow.id))) or 0
            session.execute(delete(WatchdogRunRow).where(WatchdogRunRow.id <= newest - KEEP_RUNS))
        return run

"""What does the watchdog do in one sweep, and what does it leave on record?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Text, cast, delete, insert, select

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import StoreUnavailable
from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.reference.message import Reaped
from qosqueue.service.attempts import Attempts
from qosqueue.service.learning import Learning
from qosqueue.service.pools import Pools
from qosqueue.service.queues import Queues
from qosqueue.service.reconciler import Reconciler
from qosqueue.service.shares import Shares
from qosqueue.service.unrecorded import Unrecorded
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord, OverdueJob
from qosqueue.store.session import Store
from qosqueue.store.tables import WatchdogRunRow

AT_ONCE = 500
# A sweep that comes back full goes on for so long: a burst that expires together gets its answers in one sweep.
SWEEP_S = 1.0
# Runs that did something (or failed), and runs that found nothing to do: at two a second these are five minutes.
KEEP_RUNS = 5_000
KEEP_IDLE_RUNS = 600
ERROR_AT_MOST = 500

EXHAUSTED = {
    "status": 500,
    "code": "attempts_exhausted",
    "message": "Every attempt ended with the loss of its worker; the job is kept as a dead letter.",
    "param": None,
}
LOST = {
    "status": 503,
    "code": "worker_lost",
    "message": "The queue knows nothing of this job any more: its worker was lost, and its message too.",
    "param": None,
}
# A row so long after its time to live may have lost its message: then it gets its answer from here.
OVERDUE_AFTER_MS = 60_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WatchdogRun:
    """One run: its task, when it began (ms since the epoch), how long it took (µs), what it did.

    On record the outcome holds only what was done: it is empty for a run that found nothing to do. That of a run
    that failed is `{"error": why}`.
    """

    task: str
    started_ms: int
    duration_us: int
    outcome: dict[str, Any]


class Watchdog:
    """Reaps lost leases, expires what is past its time to live, moves what time has moved, keeps the pools' terms, the
    shares and the caps, queues again what the queue has lost."""

    def __init__(
        self,
        scripts: Scripts,
        store: Store,
        record: JobRecord,
        attempts: Attempts,
        queues: Queues,
        pools: Pools,
        shares: Shares,
        learning: Learning,
        reconciler: Reconciler,
        unrecorded: Unrecorded,
    ) -> None:
        self._scripts = scripts
        self._queues = queues
        self._pools = pools
        self._shares = shares
        self._learning = learning
        self._reconciler = reconciler
        self._unrecorded = unrecorded
        self._store = store
        self._record = record
        self._attempts = attempts
        self._untold: list[Callable[[], object]] = []
        self._telling = threading.Lock()
        self._looked_at: OverdueJob | None = None

    def reap(self) -> WatchdogRun:
        """Requeue lost leases; tell the record what died, expired or was withdrawn."""
        return self._run("reap", self._reap)

    def age(self) -> WatchdogRun:
        """Make the moves that time has brought; tell the order what its pools are now, and who was promised what."""
        return self._run("age", self._age)

    def learn(self) -> WatchdogRun:
        """Learn from finished requests which start budgets their scenarios need."""
        return self._run("learn", lambda: {"scenarios": self._learning.learn()})

    def reconcile(self) -> WatchdogRun:
        """Write down what ended while SQL was away; queue again what is open on record and unknown to the queue."""
        return self._run("reconcile", self._reconcile)

    def runs(self, limit: int) -> list[WatchdogRun]:
        """The last runs, newest first."""
        with self._store.session() as session:
            rows = session.scalars(select(WatchdogRunRow).order_by(WatchdogRunRow.id.desc()).limit(limit))
            return [WatchdogRun(row.task, row.started_ms, row.duration_us, row.outcome) for row in rows]

    def _reap(self) -> dict[str, Any]:
        # What the queue lets go of must be told to the record: while that is away, let go of nothing.
        self._store.ping()
        until_s = time.monotonic() + SWEEP_S
        with self._telling:
            swept = self._reap_once()
            total = swept
            while swept.is_full(AT_ONCE) and time.monotonic() < until_s:
                swept = self._reap_once()
                total = total + swept
        return asdict(total) | {"overdue": self._end_overdue()}

    def _reap_once(self) -> Reaped:
        # The next attempt may begin as soon as the queue has let go of the one before: it is told after the loss.
        at_ms = now_ms()
        reaped = self._scripts.reap(limit=AT_ONCE)
        if lost := [*reaped.requeued, *reaped.dead]:
            log.warning("leases were lost", requests=lost)
        # What the order has forgotten must reach the record, if need be with a later sweep.
        self._untold += self._moves(reaped, at_ms)
        while self._untold:
            self._untold[0]()
            self._untold.pop(0)
        return reaped

    def _end_overdue(self) -> list[str]:
        found = self._record.overdue(now_ms() - OVERDUE_AFTER_MS, AT_ONCE, self._looked_at)
        # Some may run on for hours, with their leases: the next sweep looks at the next ones, and then again from
        # the oldest on.
        self._looked_at = found[-1] if len(found) == AT_ONCE else None
        return [job.id for job in found if self._end(job)]

    def _end(self, job: OverdueJob) -> bool:
        """Give a job its end if nobody else will. The row was read before the queue is asked: what has ended in
        between is final, and takes no further move."""
        position = self._queues.position_of(job.id)
        if position.dead and job.status is not JobStatus.ACCEPTED:
            return self._record.move(job.id, JobEvent.ERRORED, finished_ms=now_ms(), error=EXHAUSTED)
        if job.status is not JobStatus.RUNNING:
            return self._attempts.expire(job.id)
        return not position.known and self._record.move(job.id, JobEvent.ERRORED, finished_ms=now_ms(), error=LOST)

    def _moves(self, reaped: Reaped, at_ms: int) -> list[Callable[[], object]]:
        lost = [
            # With its fence: by now the next attempt may have begun, and must not look queued.
            partial(self._attempts.lost, job_id, fence, at_ms)
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
        moved = asdict(self._scripts.age(limit=AT_ONCE))
        # What was let in and never queued holds nothing any more; time moves breakers.
        moved |= {"lapsed": list(self._scripts.lapse(limit=AT_ONCE))}
        self._scripts.probe()
        return moved | {"pools": self._pools.refresh()} | self._shares.refresh()

    def _reconcile(self) -> dict[str, Any]:
        recorded = self._unrecorded.record(AT_ONCE)
        return {"recorded": recorded} | asdict(self._reconciler.run())

    def _run(self, task: str, work: Callable[[], dict[str, Any]]) -> WatchdogRun:
        started_ms, begin_ns = now_ms(), time.perf_counter_ns()

        def run(outcome: dict[str, Any]) -> WatchdogRun:
            return WatchdogRun(task, started_ms, (time.perf_counter_ns() - begin_ns) // 1000, outcome)

        try:
            outcome = work()
        except Exception as error:
            self._keep_failed(run({"error": f"{type(error).__name__}: {error}".partition("\n")[0][:ERROR_AT_MOST]}))
            raise
        done = run(outcome)
        self._keep(done)
        return done

    def _keep_failed(self, run: WatchdogRun) -> None:
        try:
            self._keep(run)
        except StoreUnavailable as error:
            # What made the run fail is raised all the same, and may well be this.
            log.warning("a failed run of the watchdog is not on record", task=run.task, error=str(error))

    def _keep(self, run: WatchdogRun) -> None:
        done = {what: tasks for what, tasks in run.outcome.items() if tasks}
        # Text, because PostgreSQL compares no JSON. Each run clears away its own kind.
        is_idle = cast(WatchdogRunRow.outcome, Text) == "{}"
        same_kind, keep = (~is_idle, KEEP_RUNS) if done else (is_idle, KEEP_IDLE_RUNS)
        first_to_go = (
            select(WatchdogRunRow.id).where(same_kind).order_by(WatchdogRunRow.id.desc()).offset(keep).limit(1)
        )
        with self._store.session() as session:
            session.execute(insert(WatchdogRunRow), [asdict(run) | {"outcome": done}])
            session.execute(delete(WatchdogRunRow).where(same_kind, WatchdogRunRow.id <= first_to_go.scalar_subquery()))

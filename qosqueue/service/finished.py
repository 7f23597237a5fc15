"""How are synchronous requests recorded without making their clients wait for SQL?"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from qosqueue.errors import StoreUnavailable
from qosqueue.service.unrecorded import Ended, first_line, insert
from qosqueue.store.decisions import Decision
from qosqueue.store.job_record import JobRecord

AT_ONCE = 200
KEEP_ROWS = 50_000
RETRY_S = 1.0
LINGER_S = 0.25

# Nobody waits for a decision to be put into words: the thread that writes does it.
MakeDecision = Callable[[], Decision]

log = structlog.get_logger(__name__)


class FinishedRequests:
    """One thread writes what ended, in batches.

    While SQL is away `keep` is asked to take a batch (Unrecorded.keep does); if it does not, rows wait in memory, up to
    KEEP_ROWS.
    """

    def __init__(self, record: JobRecord, keep: Callable[[Sequence[Ended]], bool]) -> None:
        self._record = record
        self._keep = keep
        self._rows: queue.SimpleQueue[tuple[dict[str, Any], Sequence[MakeDecision]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def add(self, row: dict[str, Any], decided: Sequence[MakeDecision] = (), *, at_once: bool = False) -> None:
        """Record one request that ended, and what was decided about it: soon, or `at_once` if SQL is there. If the
        buffer is full the row is dropped and the log says so."""
        if at_once and self._is_written(_ended(row, decided)):
            return
        if self._thread is None:
            self._start()
        if self._rows.qsize() >= KEEP_ROWS:
            log.error("a finished request is not recorded: SQL has been away for too long", request=row["id"])
            return
        self._rows.put((row, decided))

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, then stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _is_written(self, ended: Ended) -> bool:
        try:
            insert(self._record, [ended])
        except StoreUnavailable as error:
            log.warning("a finished request waits for SQL", request=ended.row["id"], error=str(error))
            return False
        except SQLAlchemyError as error:
            log.error("a finished request is dropped", request=ended.row["id"], error=first_line(error))
        return True

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="finished-requests", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _run(self) -> None:
        batch: list[Ended] = []
        while batch or not self._rows.empty() or not self._closing.is_set():
            batch += self._take(AT_ONCE - len(batch), wait_s=0.0 if batch else 0.2)
            if not batch:
                continue
            # One transaction for what ends within this time: committing each by itself costs the web process an
            # eighth of its time.
            self._closing.wait(LINGER_S)
            batch += self._take(AT_ONCE - len(batch), wait_s=0.0)
            try:
                insert(self._record, batch)
                batch = []
            except SQLAlchemyError as error:
                # A row that the database does not take must not hold up all that come after it.
                log.error("a finished request is not recorded", rows=len(batch), error=first_line(error))
                batch = self._without_refused(batch)
            except StoreUnavailable as error:
                log.warning("finished requests wait for SQL", rows=len(batch), error=str(error))
                if self._keep(batch):
                    batch = []
                elif self._closing.wait(RETRY_S):
                    log.error("finished requests are lost: the process ends while SQL is away", rows=len(batch))
                    return

    def _without_refused(self, batch: list[Ended]) -> list[Ended]:
        """Drop the one row that was refused; of several, write each on its own. What is left waits for SQL."""
        left: list[Ended] = []
        for ended in batch if len(batch) > 1 else []:
            try:
                insert(self._record, [ended])
            except StoreUnavailable:
                left.append(ended)
            except SQLAlchemyError as error:
                log.error("a finished request is dropped", request=ended.row["id"], error=first_line(error))
        return left

    def _take(self, limit: int, wait_s: float) -> list[Ended]:
        rows: list[Ended] = []
        try:
            while len(rows) < limit:
                taken = self._rows.get(timeout=wait_s) if not rows and wait_s else self._rows.get_nowait()
                rows.append(_ended(*taken))
        except queue.Empty:
            pass
        return rows


def _ended(row: dict[str, Any], decided: Sequence[MakeDecision]) -> Ended:
    return Ended(row, list(_made(row["id"], decided)))


def _made(request_id: str, decided: Sequence[MakeDecision]) -> Iterator[Decision]:
    for make in decided:
        try:
            yield make()
        except Exception:
            # It may tell what a worker of another version wrote, in any shape: the request is recorded without it.
            log.exception("a decision is not recorded: it cannot be put into words", request=request_id)

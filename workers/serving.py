"""How is a leased message served and settled, whoever took it: the fast lane or Celery's own consumer?

What it spent, whether it is tried again, and what its breakers hear is decided here, once for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
import structlog

from qosqueue.broker.leases import LeaseTable, receipt_of
from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.broker.scripts import Scripts, settle_arguments
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.reference.message import Delivery, Outcome
from qosqueue.service.job_detours import JobDetours, OtherWay
from qosqueue.store.clock import now_ms
from qosqueue_workers.attempt import UNSERVED, AttemptRunner, Ended
from qosqueue_workers.breakers import ReplicaBreakers
from qosqueue_workers.sinks import Sink

STALE, AS_ASKED, CANCELLED, LAST_ATTEMPT = range(4)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ran:
    """An attempt that has run and is not settled: how it ended, and the error that it raised, if it did."""

    delivery: Delivery
    request: dict[str, Any]
    writer: ReplyWriter | None
    ended: Ended = UNSERVED
    error: Exception | None = None

    @property
    def is_written_down(self) -> bool:
        """Whether its outcome reached its row or its client's stream."""
        return not isinstance(self.error, StoreUnavailable | redis.RedisError)


class Serving:
    """Runs attempts that this process holds in its lease table, and settles them."""

    def __init__(
        self,
        runner: AttemptRunner,
        table: LeaseTable,
        scripts: Scripts,
        outbox: Outbox,
        breakers: ReplicaBreakers,
        detours: JobDetours,
    ) -> None:
        self._runner = runner
        self._table = table
        self._scripts = scripts
        self._outbox = outbox
        self._breakers = breakers
        self._detours = detours

    def run(self, delivery: Delivery, request: dict[str, Any]) -> Ran:
        """Run one attempt. It must be settled, however it ended."""
        writer = self._runner.writer(request, delivery.fence)
        try:
            ended = self._runner.attempt(request, delivery.fence, writer, delivery.passage)
        except (StoreUnavailable, redis.RedisError) as error:
            # The outcome is not written down: the message goes back to its place and runs again.
            log.error("an outcome could not be written down", request=delivery.task, error=str(error))
            return Ran(delivery, request, writer, error=error)
        except Exception as error:
            log.exception("an attempt failed", request=delivery.task)
            return Ran(delivery, request, writer, error=error)
        return Ran(delivery, request, writer, ended)

    def settle(self, ran: Ran) -> None:
        """Settle it: served, tried again, let run in another way, given up or put back; and tell its breakers."""
        ended, settled = ran.ended, AS_ASKED
        if ended.again:
            settled = self._try_again(ran)
        if ended.error is not None and (not ended.again or settled == LAST_ATTEMPT):
            self._given_up(ran, ended.error)
        elif not ended.again:
            outcome: Outcome = "done" if ended.served else "void"
            self._settle(ran, outcome if ran.is_written_down else "requeue", ended)
        # Of an attempt that was taken back (its worker ends, its lease was lost) nobody knows whose fault its end is.
        if ended.fault and settled != STALE:
            self._breakers.failed(ran.delivery.model)

    def _try_again(self, ran: Ran) -> int:
        """Put it back for another attempt, if it has one: what settling it has answered."""
        delivery = ran.delivery
        self._breakers.stand_back(delivery.model)
        failed_ms = now_ms()  # before another attempt can begin
        try:
            settled = self._scripts.settle(tag=delivery.tag, fence=delivery.fence, outcome="retry")
        except redis.RedisError as error:
            # Its lease runs out: then it is tried again.
            log.warning("a failed attempt is not put back now", request=delivery.task, error=str(error))
            settled = STALE
        sink = self._sink(ran)
        try:
            if settled == CANCELLED:
                sink.cancelled()
            elif settled == AS_ASKED:
                sink.waits_again(failed_ms)
        except (StoreUnavailable, redis.RedisError) as error:
            log.error("an outcome could not be written down", request=delivery.task, error=str(error))
        if settled != LAST_ATTEMPT:
            self._table.release(receipt_of(delivery))
        return settled

    def _given_up(self, ran: Ran, error: dict[str, Any]) -> None:
        """Its model has no answer: a job may have one of another model; else say why, and settle."""
        outcome: Outcome = "void"
        try:
            if ran.writer is None and (way := self._detours.find(ran.delivery.task, ran.delivery.fence)) is not None:
                self._go_around(ran, way, error)
                return
            self._sink(ran).failed(error)
        except (StoreUnavailable, redis.RedisError) as fault:
            log.error("an outcome could not be written down", request=ran.delivery.task, error=str(fault))
            outcome = "requeue"
        self._settle(ran, outcome, UNSERVED)

    def _go_around(self, ran: Ran, way: OtherWay, error: dict[str, Any]) -> None:
        """Let a job run in another way. Its message goes first, with what it held: there is never a second one."""
        settled = self._settle(ran, "void", UNSERVED)
        sink = self._sink(ran)
        try:
            if settled == CANCELLED:
                sink.cancelled()
            elif settled == AS_ASKED and not self._detours.go(way):
                sink.failed(error)
        except (StoreUnavailable, BrokerUnavailable) as fault:
            # On record it is open, and the queue does not know it: the reconciler queues it again.
            job = ran.delivery.task
            log.error("a job that its model has failed is left to the reconciler", job=job, error=str(fault))

    def _sink(self, ran: Ran) -> Sink:
        return self._runner.sink(ran.request, ran.delivery.fence, ran.writer)

    def _settle(self, ran: Ran, outcome: Outcome, ended: Ended) -> int:
        """The last words, what was spent and the settling, in one write: what settling it has answered."""
        delivery = ran.delivery
        if self._table.release(receipt_of(delivery)) is None:
            self._outbox.flush()  # given back meanwhile: the process ends
            return STALE
        heard = ended.served and not ended.stopped
        breakers = self._breakers.names(delivery.model) if heard else ()
        how = settle_arguments(delivery.tag, delivery.fence, outcome, ended.spent, breakers)
        settle = self._scripts.command("settle", *how)
        try:
            settled = self._outbox.flush(None if outcome == "requeue" else ran.writer, settle)
        except redis.RedisError as error:
            self._table.put_off(delivery, "requeue", error)
            return STALE
        if settled == STALE:
            log.warning("a late settle was refused", tag=delivery.tag, fence=delivery.fence, outcome=outcome)
        return int(settled)

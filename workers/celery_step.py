"""How does the fast lane live in Celery's worker? As a step of its start and stop, seen by its remote control.

The lane's attempts are in `inspect active` and `query_task`, count in `stats`, end by `revoke --terminate`, and send
task_prerun, task_postrun and task events. What is not a request of qosqueue, or asks more of Celery, is handed to the
consumer (docs/adr/0008).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import bootsteps, signals
from celery.worker import state
from pydantic_core import from_json

from qosqueue.broker.celery_app import INFER_TASK
from qosqueue.broker.leases import LeaseTable, receipt_of
from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.broker.scripts import Scripts, settle_arguments
from qosqueue.broker.task_message import request_of
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.reference.message import Delivery, Outcome
from qosqueue.service.job_detours import JobDetours, OtherWay
from qosqueue.store.clock import now_ms
from qosqueue_workers.attempt import UNSERVED, AttemptRunner, Ended
from qosqueue_workers.breakers import ReplicaBreakers
from qosqueue_workers.fast_lane import FastLane

STALE, AS_ASKED, CANCELLED, LAST_ATTEMPT = range(4)

log = structlog.get_logger(__name__)


class LaneRequest:
    """What Celery's remote control sees of an attempt: as much of celery.worker.request.Request as it asks for."""

    def __init__(
        self, task: Any, delivery: Delivery, request: dict[str, Any], runner: AttemptRunner, host: str
    ) -> None:
        self.id = delivery.task
        self.name = INFER_TASK
        self.task = task
        self.args = [request]
        self._delivery = delivery
        self._runner = runner
        self._host = host
        self._began_s = time.time()

    def info(self, safe: bool = False) -> dict[str, Any]:
        """The entry of `inspect active`. The prompt is left out, as it is from Celery's own entries."""
        return {
            "id": self.id,
            "name": self.name,
            "args": f"({self.id!r},)",
            "kwargs": "{}",
            "type": self.name,
            "hostname": self._host,
            "time_start": self._began_s,
            "acknowledged": False,
            "delivery_info": {"exchange": "", "routing_key": self._delivery.lane, "fast_lane": True},
            "worker_pid": os.getpid(),
        }

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the attempt, as its tenant's cancellation would."""
        self._runner.stop(self.id, "cancelled", self._delivery.fence)


class Attendant:
    """Serves the lane's deliveries within one Celery worker: runs, tells Celery, settles."""

    def __init__(
        self,
        worker: Any,
        runner: AttemptRunner,
        table: LeaseTable,
        scripts: Scripts,
        outbox: Outbox,
        breakers: ReplicaBreakers,
        detours: JobDetours,
    ) -> None:
        self._worker = worker
        self._detours = detours
        self._breakers = breakers
        self._runner = runner
        self._table = table
        self._scripts = scripts
        self._outbox = outbox

    def serve(self, delivery: Delivery) -> None:
        """Run one attempt and settle it, or let Celery's consumer do so."""
        request = _request_in(delivery)
        if request is None or delivery.task in state.revoked:
            self._worker.hub.call_soon(self._hand_over, delivery)
            return
        task = self._worker.app.tasks[INFER_TASK]
        seen = LaneRequest(task, delivery, request, self._runner, self._worker.hostname)
        state.task_accepted(seen)
        self._tell(signals.task_prerun, seen)
        self._send("task-started", seen)
        writer = self._runner.writer(request, delivery.fence)
        outcome: Outcome = "void"
        failed = False
        ended = UNSERVED
        try:
            ended = self._runner.attempt(request, delivery.fence, writer, delivery.passage)
            if ended.served:
                outcome = "done"
        except (StoreUnavailable, redis.RedisError) as error:
            # The outcome is not written down: the message goes back to its place and runs again.
            log.error("an outcome could not be written down", request=delivery.task, error=str(error))
            outcome, failed = "requeue", True
        except Exception:
            log.exception("an attempt failed", request=delivery.task)
            failed = True
        finally:
            state.task_ready(seen, successful=not failed)
        settled = AS_ASKED
        if ended.again:
            settled = self._try_again(delivery, request, writer)
        if ended.error is not None and (not ended.again or settled == LAST_ATTEMPT):
            self._given_up(delivery, request, writer, ended.error)
        elif not ended.again:
            self._settle(delivery, outcome, writer, ended)
        # Of an attempt that was taken back (its worker ends, its lease was lost) nobody knows whose fault its end is.
        if ended.fault and settled != STALE:
            self._breakers.failed(delivery.model)
        self._send("task-failed" if failed else "task-succeeded", seen)
        self._tell(signals.task_postrun, seen, state="FAILURE" if failed else "SUCCESS", retval=None)

    def _try_again(self, delivery: Delivery, request: dict[str, Any], writer: ReplyWriter | None) -> int:
        """Put it back for another attempt, if it has one: what settling it has answered."""
        self._breakers.stand_back(delivery.model)
        failed_ms = now_ms()  # before another attempt can begin
        try:
            settled = self._scripts.settle(tag=delivery.tag, fence=delivery.fence, outcome="retry")
        except redis.RedisError as error:
            # Its lease runs out: then it is tried again.
            log.warning("a failed attempt is not put back now", request=delivery.task, error=str(error))
            settled = STALE
        sink = self._runner.sink(request, delivery.fence, writer)
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

    def _given_up(
        self, delivery: Delivery, request: dict[str, Any], writer: ReplyWriter | None, error: dict[str, Any]
    ) -> None:
        """Its model has no answer: a job may have one of another model; else say why, and settle."""
        outcome: Outcome = "void"
        try:
            if writer is None and (way := self._detours.find(delivery.task, delivery.fence)) is not None:
                self._go_around(delivery, request, way, error)
                return
            self._runner.sink(request, delivery.fence, writer).failed(error)
        except (StoreUnavailable, redis.RedisError) as fault:
            log.error("an outcome could not be written down", request=delivery.task, error=str(fault))
            outcome = "requeue"
        self._settle(delivery, outcome, writer, UNSERVED)

    def _go_around(self, delivery: Delivery, request: dict[str, Any], way: OtherWay, error: dict[str, Any]) -> None:
        """Let a job run in another way. Its message goes first, with what it held: there is never a second one."""
        settled = self._settle(delivery, "void", None, UNSERVED)
        sink = self._runner.sink(request, delivery.fence, None)
        try:
            if settled == CANCELLED:
                sink.cancelled()
            elif settled == AS_ASKED and not self._detours.go(way):
                sink.failed(error)
        except (StoreUnavailable, BrokerUnavailable) as fault:
            # On record it is open, and the queue does not know it: the reconciler queues it again.
            log.error("a job that its model has failed is left to the reconciler", job=delivery.task, error=str(fault))

    def _settle(self, delivery: Delivery, outcome: Outcome, writer: ReplyWriter | None, ended: Ended) -> int:
        """The last words, what was spent and the settling, in one write: what settling it has answered."""
        if self._table.release(receipt_of(delivery)) is None:
            self._outbox.flush()  # given back meanwhile: the process ends
            return STALE
        breakers = self._breakers.names(delivery.model) if ended.served else ()
        how = settle_arguments(delivery.tag, delivery.fence, outcome, ended.spent, breakers)
        settle = self._scripts.command("settle", *how)
        try:
            settled = self._outbox.flush(None if outcome == "requeue" else writer, settle)
        except redis.RedisError as error:
            self._table.put_off(delivery, "requeue", error)
            return STALE
        if settled == STALE:
            log.warning("a late settle was refused", tag=delivery.tag, fence=delivery.fence, outcome=outcome)
        return int(settled)

    def _hand_over(self, delivery: Delivery) -> None:
        """Let Celery's consumer have a message; called in its thread."""
        consumer = getattr(self._worker.consumer, "task_consumer", None)
        try:
            if consumer is None:
                self._table.settle(receipt_of(delivery), "requeue")
            else:
                consumer.channel.deliver(delivery)
        except Exception:
            # One that cannot be read runs out of leases, and ends as a dead letter. The event loop must go on.
            log.exception("a message could not be handed to the consumer", task=delivery.task)
            self._table.release(receipt_of(delivery))

    def _tell(self, signal: Any, seen: LaneRequest, **more: Any) -> None:
        if signal.receivers:
            signal.send(sender=seen.task, task_id=seen.id, task=seen.task, args=seen.args, kwargs={}, **more)

    def _send(self, event: str, seen: LaneRequest) -> None:
        dispatcher = getattr(self._worker.consumer, "event_dispatcher", None)
        if dispatcher is not None and dispatcher.enabled:
            dispatcher.send(event, uuid=seen.id)


def _request_in(delivery: Delivery) -> dict[str, Any] | None:
    try:
        return request_of(from_json(delivery.payload))
    except (ValueError, KeyError, TypeError):
        return None  # no message of ours: Celery knows what to do with it


class FastLaneStep(bootsteps.StartStopStep):
    """Starts the lane before the consumer; stops it after the consumer has stopped, when what it runs has ended.

    The worker's option `fast_lane` makes the lane; without it there is none.
    """

    requires = ("celery.worker.components:Hub", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **options: Any) -> None:
        self._make: Callable[[Any], FastLane] | None = options.get("fast_lane")
        self._lane: FastLane | None = None

    def include_if(self, worker: Any) -> bool:
        return self._make is not None and worker.use_eventloop

    def start(self, worker: Any) -> None:
        """Make and start the lane."""
        if self._make is None:
            raise AssertionError("a step without a lane is not included")
        self._lane = self._make(worker)
        self._lane.start()

    def close(self, worker: Any) -> None:
        """Take no more: called before any step is stopped."""
        if self._lane is not None:
            self._lane.close()

    def stop(self, worker: Any) -> None:
        """Warm shutdown: what runs runs on to its end."""
        if self._lane is not None:
            self._lane.join()

    def terminate(self, worker: Any) -> None:
        """Cold shutdown: what runs is given back by the lease table when the process ends."""
        self.close(worker)

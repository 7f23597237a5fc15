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

import structlog
from celery import bootsteps, signals
from celery.worker import state
from pydantic_core import from_json

from qosqueue.broker.celery_app import INFER_TASK
from qosqueue.broker.leases import LeaseTable, receipt_of
from qosqueue.broker.task_message import request_of
from qosqueue.policy.reference.message import Delivery
from qosqueue_workers.attempt import AttemptRunner
from qosqueue_workers.fast_lane import FastLane
from qosqueue_workers.serving import Serving

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

    def __init__(self, worker: Any, runner: AttemptRunner, table: LeaseTable, serving: Serving) -> None:
        self._worker = worker
        self._runner = runner
        self._table = table
        self._serving = serving

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
        failed = True
        try:
            ran = self._serving.run(delivery, request)
            failed = ran.error is not None
        finally:
            state.task_ready(seen, successful=not failed)
        self._serving.settle(ran)
        self._send("task-failed" if failed else "task-succeeded", seen)
        self._tell(signals.task_postrun, seen, state="FAILURE" if failed else "SUCCESS", retval=None)

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

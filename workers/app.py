"""What is an inference worker? A stock Celery worker on a pool of threads, one thread a slot of its engines."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import redis
import structlog
from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import Reject
from celery.signals import worker_shutting_down

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import FIFO_QUEUE, INFER_TASK, make_celery
from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.outbox import Outbox
from qosqueue.broker.picks import Picks
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import StoreUnavailable
from qosqueue.policy.profile import WINDOW
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.terms import TIERS, lane_name
from qosqueue.settings import Settings
from qosqueue.store.records import Model
from qosqueue.wiring import Services
from qosqueue_workers.attempt import AttemptRunner
from qosqueue_workers.breakers import ReplicaBreakers
from qosqueue_workers.cancellations import Cancellations
from qosqueue_workers.celery_step import Attendant, FastLaneStep
from qosqueue_workers.engines.base import Engine
from qosqueue_workers.engines.registry import make_engine
from qosqueue_workers.fast_lane import BLOCK_S, FastLane
from qosqueue_workers.gpu import GpuBinding, NoGpu
from qosqueue_workers.presence import Presence
from qosqueue_workers.serving import Serving

log = structlog.get_logger(__name__)


def load_engines(models: list[Model]) -> dict[str, Engine]:
    """The models' engines, loaded; raises EngineError with one line for the first that cannot be."""
    engines = {}
    for model in models:
        engine = make_engine(model)
        engine.load()
        log.info("model loaded", model=model.name, engine=model.engine, health=engine.health().detail)
        engines[model.name] = engine
    return engines


def slots_of(models: list[Model]) -> dict[str, int]:
    """How many attempts of each model run at once: its slots, but no more than its weight class's window."""
    return {model.name: min(model.slots, WINDOW[model.weight_class]) for model in models}


def lanes_of(settings: Settings, models: list[Model]) -> list[str]:
    """The lanes that a worker with these models serves."""
    if settings.order == "fifo":
        return [FIFO_QUEUE]
    weights = sorted({model.weight_class for model in models})
    return [lane_name(tier, weight) for tier in TIERS for weight in weights]


def register_tasks(app: Celery, runner: AttemptRunner, table: LeaseTable, serving: Serving) -> None:
    """The tasks that requests are sent to. What Celery's consumer takes is served and settled as the fast lane does;
    that Celery acknowledges it once more then changes nothing."""

    @app.task(name=INFER_TASK, bind=True, shared=False)
    def infer(task: Any, request: dict[str, Any]) -> None:
        delivery = table.held(task.request.properties["delivery_tag"])
        if delivery is not None:
            ran = serving.run(delivery, request)
            serving.settle(ran)
            error = ran.error
        else:
            error = _run_unheld(runner, task.request, request)
        if isinstance(error, StoreUnavailable | redis.RedisError):
            raise Reject(str(error), requeue=True) from error
        if error is not None:
            raise error


def _run_unheld(runner: AttemptRunner, context: Any, request: dict[str, Any]) -> Exception | None:
    """Run an attempt whose lease is not ours to settle: stock Kombu (the fifo baseline) has none, and no fences: there
    every delivery is the first. Else it was lost just now, and its fence can change nothing any more."""
    try:
        runner.run(request, getattr(context, "qos_fence", None) or 1, getattr(context, "qos_passage", None) or "")
    except (StoreUnavailable, redis.RedisError) as error:
        # The outcome is not written down: the message goes back to its place and runs again.
        log.error("an outcome could not be written down", request=request["id"], error=str(error))
        return error
    return None


def make_lane(
    settings: Settings,
    table: LeaseTable,
    scripts: Scripts,
    lanes: list[str],
    serve: Callable[[Delivery], None],
    holder: str,
) -> FastLane:
    """The fast lane of a worker: a thread for each slot, and one that waits when all of them are taken."""
    client = connect(settings, socket_timeout_s=BLOCK_S + 2)
    picks = Picks(scripts, f"{holder}:lane", lease_ms=settings.lease_ms)
    connection = client.connection_pool.make_connection()
    return FastLane(connection, picks, table, lanes, serve, threads=sum(table.capacity.values()) + 1)


def serve(
    services: Services,
    models: list[Model],
    engines: Mapping[str, Engine],
    gpu: GpuBinding | NoGpu,
    name: str | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, finish what runs, and return the exit code."""
    settings = services.settings
    worker = name or f"{socket.gethostname()}-{os.getpid()}"
    slots = slots_of(models)
    outbox = Outbox(services.scripts)
    runner = AttemptRunner(engines, services.attempts, outbox, worker)
    table = LeaseTable(
        lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity=slots, on_stop=runner.stop
    )
    app = make_celery(settings, lease_table=table)
    breakers = ReplicaBreakers(services.scripts, services.replicas, table, worker, engines)
    serving = Serving(runner, table, services.scripts, outbox, breakers, services.job_detours)
    register_tasks(app, runner, table, serving)
    app.steps["worker"].add(FastLaneStep)
    lanes = lanes_of(settings, models)

    def look_around() -> None:
        breakers.look()
        runner.stop_stalled(settings.stall_ms)

    device = gpu.name if isinstance(gpu, GpuBinding) else None
    presence = Presence(services.replicas, worker, engines, slots, device, on_beat=look_around)
    cancellations = Cancellations(lambda: connect(settings, socket_timeout_s=None), settings.group, runner.stop)

    def fast_lane(celery_worker: Any) -> FastLane:
        attendant = Attendant(celery_worker, runner, table, serving)
        return make_lane(settings, table, services.scripts, lanes, attendant.serve, worker)

    @worker_shutting_down.connect(weak=False)
    def drain(**_: Any) -> None:
        presence.drain()

    presence.start()
    cancellations.start()
    celery_worker = Worker(
        app=app,
        hostname=f"{worker}@{socket.gethostname()}",
        pool="threads",
        concurrency=sum(slots.values()),
        queues=lanes,
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
        fast_lane=None if settings.order == "fifo" else fast_lane,
    )
    # What is there now lives as long as the process: a garbage collection that looked at it would stop every thread
    # for a tenth of a second.
    gc.collect()
    gc.freeze()
    try:
        celery_worker.start()
    finally:
        cancellations.close()
        presence.close()
        table.give_back()
        for engine in engines.values():
            engine.close()
    return int(celery_worker.exitcode or 0)

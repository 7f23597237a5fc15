"""What is an inference worker? A stock Celery worker on a pool of threads, one thread a slot of its engines."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
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
from qosqueue.errors import StoreUnavailable
from qosqueue.policy.profile import WINDOW
from qosqueue.policy.terms import TIERS, lane_name
from qosqueue.settings import Settings
from qosqueue.store.records import Model
from qosqueue.wiring import Services
from qosqueue_workers.attempt import AttemptRunner
from qosqueue_workers.cancellations import Cancellations
from qosqueue_workers.engines.base import Engine
from qosqueue_workers.engines.registry import make_engine
from qosqueue_workers.gpu import GpuBinding, NoGpu
from qosqueue_workers.presence import Presence

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


def register_tasks(app: Celery, runner: AttemptRunner) -> None:
    """The tasks that requests are sent to."""

    @app.task(name=INFER_TASK, bind=True)
    def infer(task: Any, request: dict[str, Any]) -> None:
        # Stock Kombu (the fifo baseline) has no fences: there every delivery is the first.
        try:
            runner.run(request, getattr(task.request, "qos_fence", None) or 1)
        except (StoreUnavailable, redis.RedisError) as error:
            # The outcome is not written down: the message goes back to its place and runs again.
            log.error("an outcome could not be written down", request=request["id"], error=str(error))
            raise Reject(str(error), requeue=True) from error


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
    runner = AttemptRunner(engines, services.attempts, services.redis, settings.group, worker)
    table = LeaseTable(
        lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity=slots, on_stop=runner.stop
    )
    app = make_celery(settings, lease_table=table)
    register_tasks(app, runner)
    presence = Presence(services.replicas, worker, engines, slots, gpu.name if isinstance(gpu, GpuBinding) else None)
    cancellations = Cancellations(lambda: connect(settings, socket_timeout_s=None), settings.group, runner.stop)

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
        queues=lanes_of(settings, models),
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    try:
        celery_worker.start()
    finally:
        cancellations.close()
        presence.close()
        table.give_back()
        for engine in engines.values():
            engine.close()
    return int(celery_worker.exitcode or 0)

"""Which ways through Celery are driven in real time, and what does each tell the broker of a request?

    qosqueue    our transport and the header `qos`
    fifo        stock Celery on Kombu's Redis transport, one list
    priorities  the same with ten priorities, a list for each ("Redis message priorities" in Celery's documentation)

All three: late acknowledgement, prefetch 1 and none beyond the free slots, the same task, threads and broker.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from qosqueue.broker.celery_app import FIFO_QUEUE, make_celery
from qosqueue.broker.envelope import qos_header
from qosqueue.broker.leases import LeaseTable
from qosqueue.policy.terms import PRIORITY_RANGES, TIERS, TaskType, WeightClass, lane_name
from qosqueue.settings import Settings
from scripts.bench.policies.interface import Request

QOSQUEUE, FIFO, PRIORITIES = "qosqueue", "fifo", "priorities"
WAYS = (QOSQUEUE, FIFO, PRIORITIES)
TASK = "bench.occupy"
STEPS = 10
LOWEST = STEPS - 1
MAX_ATTEMPTS = 2


def make_app(way: str, settings: Settings, lease_table: LeaseTable | None = None) -> Celery:
    """The Celery app of a way, for its producers and its workers."""
    if way != PRIORITIES:
        return make_celery(settings, lease_table=lease_table)
    stock: dict[str, Any] = make_celery(settings).conf.broker_transport_options
    steps = {"priority_steps": list(range(STEPS)), "sep": ":", "queue_order_strategy": "priority"}
    return make_celery(settings, broker_transport_options={**stock, **steps})


def order_of(way: str) -> str:
    """The setting `order` that a way needs."""
    return "qos" if way == QOSQUEUE else "fifo"


def lanes(way: str) -> list[str]:
    """The queues that its workers serve."""
    return [lane_name(tier, WeightClass.MEDIUM) for tier in TIERS] if way == QOSQUEUE else [FIFO_QUEUE]


def message(way: str, request: Request, priority: int) -> dict[str, Any]:
    """The arguments of `send_task` for a request with this priority of its profile, all but its task."""
    told: dict[str, Any] = {"args": [request.id, request.service_ms]}
    if way == FIFO:
        return told | {"queue": FIFO_QUEUE}
    if way == PRIORITIES:
        return told | {"queue": FIFO_QUEUE, "priority": step_of(request)}
    header = qos_header(
        model=request.model,
        tenant=request.tenant,
        organisation=request.organisation,
        priority=priority,
        batch=request.task_type is TaskType.BATCH,
        budget_ms=request.budget_ms,
        cost_ms=max(1, request.predicted_ms),
        ttl_ms=0,
        max_attempts=MAX_ATTEMPTS,
    )
    return told | {"queue": lane_name(request.tier, WeightClass.MEDIUM), "priority": priority, "headers": header}


def step_of(request: Request) -> int:
    """What an operator of stock Celery gives it: each tier its first priority, batch work the lowest of all."""
    return LOWEST if request.task_type is TaskType.BATCH else PRIORITY_RANGES[request.tier].first

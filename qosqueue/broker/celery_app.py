"""How is Celery set up, for those who publish and those who work?

One configuration for web, workers and watchdog. `order = fifo` gives stock Celery on Kombu's stock transport with
one queue: the baseline that the demonstration measures against.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.connection import Connection, resolve_aliases
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from qosqueue.broker.address import client_url, kombu_url
from qosqueue.broker.celery_side import CelerySide
from qosqueue.broker.leases import LeaseTable
from qosqueue.policy.terms import BULK_LANE, LANES, SYSTEM_LANE
from qosqueue.settings import Settings

INFER_TASK = "qosqueue.infer"
FIFO_QUEUE = "fifo"
TRANSPORT = "qosqueue.broker.transport:Transport"
# Kombu takes the transport of a URL with a plus from its scheme, and dotted paths there are refused: hence an alias.
SOCKET_SCHEMES = ("redis+socket://", "qosqueue+socket://")


class QuickConnection(Connection):
    """A connection whose worker tries again soon: Kombu's 2, 4, 6 … 30 s would leave slots idle for that long."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        pauses = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 2.0}
        return super().ensure_connection(*args, **(pauses | kwargs))


def make_celery(settings: Settings, *, lease_table: LeaseTable | None = None, **conf: Any) -> Celery:
    """A Celery app on this home's broker. Nothing is connected before it is used.

    `lease_table` is the worker's own account of its slots; `conf` adds to or overrides the configuration.
    """
    app = Celery("qosqueue", set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A publisher hears at once that the broker is away: its client gets a 503, not a long wait.
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        # SQL is the record; answers of synchronous requests travel on reply streams (docs/adr/0005).
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_create_missing_queues=False,
        task_default_queue=SYSTEM_LANE,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        timezone="UTC",
        redbeat_redis_url=client_url(settings),
        redbeat_key_prefix=f"{settings.group}:beat:",
        redbeat_lock_timeout=30,
    )
    app.conf.update(_fifo(settings) if settings.order == "fifo" else _qos(settings, lease_table))
    app.conf.update(conf)
    app.amqp.Connection = QuickConnection
    return app


def register_transport() -> None:
    """Give Kombu the name that SOCKET_SCHEMES puts into a URL, and the one to tell others.

    Flower and exporters look at the scheme of a connection's URL to know how to talk to the broker.
    """
    TRANSPORT_ALIASES["qosqueue"] = TRANSPORT
    resolve_aliases[TRANSPORT] = "redis"


def _qos(settings: Settings, lease_table: LeaseTable | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        **_connection(),
        "group": settings.group,
        "lease_ms": settings.lease_ms,
        "max_attempts": settings.max_deliveries,
        "celery": CelerySide(),
        # Lost leases are the watchdog's: it sweeps them once for all workers, and leaves a record.
        "reaps": False,
        "body_encoding": None,
    }
    if lease_table is not None:
        options["lease_table"] = lease_table
    register_transport()
    return {
        "broker_url": kombu_url(settings).replace(*SOCKET_SCHEMES, 1),
        "broker_transport": TRANSPORT,
        "broker_transport_options": options,
        "task_queues": [_queue(lane) for lane in (*LANES, SYSTEM_LANE, BULK_LANE)],
    }


def _fifo(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": kombu_url(settings),
        "broker_transport_options": {**_connection(), "visibility_timeout": 3600},
        "task_queues": [_queue(FIFO_QUEUE), _queue(SYSTEM_LANE), _queue(BULK_LANE)],
    }


def _connection() -> dict[str, Any]:
    # One more try after a tenth of a second, for a connection that an idle pool kept too long; then the error is told.
    once_more = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0, "interval_max": 0.1}
    return {"socket_timeout": 2, "socket_connect_timeout": 2, **once_more}


def _queue(name: str) -> Queue:
    return Queue(name, Exchange("qosqueue", type="direct"), routing_key=name)

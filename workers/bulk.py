"""`python -m qosqueue_workers.bulk`: feed batches and send webhooks, beside the watchdog, which must not wait for them.

It has a beat of its own: where no such process runs, nothing piles up for it. Several may run; a lock lets one of them
beat. Whatever is lost on the way is found again in SQL.
"""

from __future__ import annotations

import sys
from typing import Any

import structlog
from celery import Celery

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import make_celery
from qosqueue.broker.envelope import HEADER
from qosqueue.broker.leases import LeaseTable
from qosqueue.errors import BrokerUnavailable, QosqueueError, StoreUnavailable
from qosqueue.policy.terms import BULK_LANE
from qosqueue.settings import Settings, load_settings
from qosqueue.store.clock import now_ms
from qosqueue.telemetry.logs import log_to_stderr
from qosqueue.wiring import Services, build
from qosqueue_workers.beat import LOCK_S, serve_with_beat

FEED_TASK = "qosqueue.bulk.feed"
EVENTS_TASK = "qosqueue.bulk.events"
CLEAR_TASK = "qosqueue.bulk.clear"
SEND_TASK = "qosqueue.webhook.send"

# Webhooks wait for strangers: so many at once, beside the threads for all else.
SENDERS = 8
OTHERS = 3
SENDING = "webhooks"
FEED_S = 2.0
CLEAR_EVERY_S = 60.0
DUE_AT_ONCE = 200
FORGET_AT_ONCE = 1_000
LINES_KEPT_MS = 86_400_000

log = structlog.get_logger(__name__)


def register_tasks(app: Celery, services: Services) -> None:
    """The tasks of this process. One that meets an outage ends; the schedule brings the next."""

    @app.task(name=FEED_TASK)
    def feed() -> None:
        try:
            services.batch_feed.run(FEED_S)
        except (StoreUnavailable, BrokerUnavailable) as outage:
            log.warning("batches wait", error=str(outage))

    @app.task(name=EVENTS_TASK)
    def events() -> None:
        services.webhook_events.collect(DUE_AT_ONCE)
        for delivery, tenant in services.webhook_sending.due(DUE_AT_ONCE):
            # With its tenant: whose receiver is slow keeps its own events waiting, and nobody else's.
            app.send_task(
                SEND_TASK, [delivery], queue=BULK_LANE, headers={HEADER: {"tenant": tenant, "model": SENDING}}
            )

    @app.task(name=SEND_TASK)
    def send(delivery: str) -> None:
        services.webhook_sending.send(delivery)

    @app.task(name=CLEAR_TASK)
    def clear() -> None:
        files = services.files.sweep()
        lines = services.batch_feed.forget_lines(now_ms() - LINES_KEPT_MS, FORGET_AT_ONCE)
        deliveries = services.webhook_sending.forget(FORGET_AT_ONCE)
        if files or lines or deliveries:
            log.info("cleared", files=files, lines=lines, deliveries=deliveries)


def schedule(settings: Settings) -> dict[str, Any]:
    """Celery's `beat_schedule`. A run that could not start before the next one is due is dropped."""
    sweep_s = settings.sweep_ms / 1000
    periods = {FEED_TASK: sweep_s, EVENTS_TASK: sweep_s, CLEAR_TASK: CLEAR_EVERY_S}
    return {
        name: {"task": name, "schedule": period_s, "options": {"queue": BULK_LANE, "expires": period_s}}
        for name, period_s in periods.items()
    }


def main() -> int:
    """Exit code 0 after a clean stop, 1 with one line when this process cannot run."""
    try:
        settings = load_settings()
        log_to_stderr(settings.log_level)
        services = build(settings)
    except QosqueueError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        return 1
    table = LeaseTable(
        lambda: connect(settings), settings.group, lease_ms=settings.lease_ms, capacity={SENDING: SENDERS}
    )
    app = make_celery(
        settings,
        lease_table=table,
        beat_schedule=schedule(settings),
        redbeat_key_prefix=f"{settings.group}:beat:bulk:",
        redbeat_lock_timeout=LOCK_S,
    )
    register_tasks(app, services)
    try:
        return serve_with_beat(app, settings, "bulk", BULK_LANE, concurrency=SENDERS + OTHERS)
    finally:
        table.give_back()


if __name__ == "__main__":
    sys.exit(main())

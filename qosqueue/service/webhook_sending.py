"""How is an event brought to an endpoint: signed, at least once, and again and again while it is not taken?"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import delete, select, update
from standardwebhooks import Webhook

from qosqueue.service import outbound
from qosqueue.service.outbound import Answered, Refused, Unreached
from qosqueue.service.webhook_events import PENDING
from qosqueue.service.webhooks import Webhooks
from qosqueue.store.bulk_tables import WebhookDeliveryRow, WebhookEndpointRow
from qosqueue.store.clock import now_ms
from qosqueue.store.session import Store

DELIVERED, GIVEN_UP = "delivered", "given_up"
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
# Until the next try, after each that failed: the schedule of Standard Webhooks, three days in all.
RETRIES_MS = (
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
)
# For so long nobody else sends what somebody has begun to send, or has put into the queue.
CLAIM_MS = 60_000
KEEP_ENDED_MS = 7 * 24 * HOUR_MS
GONE = 410

Post = Callable[..., Answered | Unreached]

log = structlog.get_logger(__name__)


class WebhookSending:
    """Sends what `WebhookEvents` wrote down. Raises StoreUnavailable."""

    def __init__(self, store: Store, webhooks: Webhooks, *, private_allowed: bool, post: Post = outbound.post) -> None:
        self._store = store
        self._webhooks = webhooks
        self._private_allowed = private_allowed
        self._post = post

    def due(self, limit: int) -> list[tuple[str, str]]:
        """Deliveries to send now, with their tenants; nobody else is given them for a while."""
        at_ms = now_ms()
        query = (
            select(WebhookDeliveryRow.id, WebhookEndpointRow.tenant_id)
            .join(WebhookEndpointRow, WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id)
            .where(WebhookDeliveryRow.state == PENDING, WebhookDeliveryRow.next_ms <= at_ms)
            .order_by(WebhookDeliveryRow.next_ms)
            .limit(limit)
            .with_for_update(of=WebhookDeliveryRow, skip_locked=True)
        )
        with self._store.session() as session:
            if session.scalar(query.with_only_columns(WebhookDeliveryRow.id).limit(1)) is None:
                return []
        with self._store.change() as session:
            found = [(delivery, tenant) for delivery, tenant in session.execute(query)]
            claimed = update(WebhookDeliveryRow).where(WebhookDeliveryRow.id.in_([each for each, _ in found]))
            session.execute(claimed.values(next_ms=at_ms + CLAIM_MS))
        return found

    def send(self, delivery_id: str) -> None:
        """Try a delivery once, unless somebody else did meanwhile, and write down what came of it."""
        begun = self._begin(delivery_id)
        if begun is None:
            return
        delivery, endpoint = begun
        if not endpoint.enabled:
            self._end(delivery, GIVEN_UP, None, "the endpoint is disabled")
            return
        signer = Webhook(self._webhooks.secret_of(endpoint.salt))
        at = datetime.fromtimestamp(int(time.time()), UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "qosqueue-webhooks",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signer.sign(delivery.id, at, delivery.body),
        }
        try:
            answer = self._post(endpoint.url, delivery.body.encode(), headers, private_allowed=self._private_allowed)
        except Refused as why:
            answer = Unreached(str(why))
        self._note(delivery, endpoint, answer)

    def forget(self, limit: int) -> int:
        """Drop deliveries that ended a week ago; how many."""
        old = (
            select(WebhookDeliveryRow.id)
            .where(WebhookDeliveryRow.state != PENDING, WebhookDeliveryRow.ended_ms < now_ms() - KEEP_ENDED_MS)
            .limit(limit)
        )
        with self._store.session() as session:
            gone = delete(WebhookDeliveryRow).where(WebhookDeliveryRow.id.in_(old))
            return session.connection().execute(gone).rowcount

    def _begin(self, delivery_id: str) -> tuple[WebhookDeliveryRow, WebhookEndpointRow] | None:
        with self._store.change() as session:
            delivery = session.scalar(
                select(WebhookDeliveryRow).where(WebhookDeliveryRow.id == delivery_id).with_for_update()
            )
            if delivery is None or delivery.state != PENDING:
                return None
            endpoint = session.get(WebhookEndpointRow, delivery.endpoint_id)
            if endpoint is None:
                return None
            delivery.attempts += 1
            delivery.next_ms = now_ms() + CLAIM_MS
            return delivery, endpoint

    def _note(self, delivery: WebhookDeliveryRow, endpoint: WebhookEndpointRow, answer: Answered | Unreached) -> None:
        status = answer.status if isinstance(answer, Answered) else None
        text = answer.text if isinstance(answer, Answered) else answer.reason
        if status is not None and 200 <= status < 300:
            self._end(delivery, DELIVERED, status, text)
            return
        log.info("a webhook was not taken", delivery=delivery.id, attempt=delivery.attempts, status=status)
        if status == GONE:
            self._disable(endpoint.id)
        if status == GONE or delivery.attempts > len(RETRIES_MS):
            self._end(delivery, GIVEN_UP, status, text)
        else:
            again_ms = now_ms() + RETRIES_MS[delivery.attempts - 1]
            self._write(delivery, next_ms=again_ms, answer_status=status, answer=text)

    def _end(self, delivery: WebhookDeliveryRow, state: str, status: int | None, text: str) -> None:
        self._write(delivery, state=state, ended_ms=now_ms(), answer_status=status, answer=text)

    def _write(self, delivery: WebhookDeliveryRow, **columns: Any) -> None:
        """Unless a later attempt has begun."""
        mine = update(WebhookDeliveryRow).where(
            WebhookDeliveryRow.id == delivery.id, WebhookDeliveryRow.attempts == delivery.attempts
        )
        with self._store.session() as session:
            session.execute(mine.values(**columns))

    def _disable(self, endpoint_id: str) -> None:
        row = update(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id)
        with self._store.session() as session:
            session.execute(row.values(enabled=False, disabled_reason="it answered 410 Gone", updated_ms=now_ms()))

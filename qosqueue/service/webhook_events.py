"""Which events are there, and who is to be told of one? It is written down in the transaction in which it happens."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from qosqueue.policy.lifecycle import TERMINAL, JobStatus
from qosqueue.service.answers import RESPONSES, public_id
from qosqueue.store.bulk_tables import JobWebhookRow, WebhookDeliveryRow, WebhookEndpointRow
from qosqueue.store.clock import now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.session import Store
from qosqueue.store.tables import JobRow

PENDING = "pending"
JOB_EVENTS = {JobStatus.SUCCEEDED: "response.completed", JobStatus.CANCELLED: "response.cancelled"}
JOB_FAILED = "response.failed"
EVENT_TYPES = (
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    *sorted({*JOB_EVENTS.values(), JOB_FAILED}),
)


class WebhookEvents:
    """Writes events down, one delivery for each endpoint that is to be told. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def emit(
        self, session: Session, tenant_id: str, event_type: str, object_id: str, *, endpoint_id: str | None = None
    ) -> None:
        """Note, in the caller's transaction, that something happened to an object of a tenant.

        With an endpoint it alone is told, whatever it asks for; else each of the tenant's that asks for such events.
        """
        query = select(WebhookEndpointRow).where(
            WebhookEndpointRow.tenant_id == tenant_id, WebhookEndpointRow.enabled.is_(True)
        )
        if endpoint_id is not None:
            query = query.where(WebhookEndpointRow.id == endpoint_id)
        told = [row.id for row in session.scalars(query) if endpoint_id is not None or event_type in row.event_types]
        if told:
            session.connection().execute(
                insert(WebhookDeliveryRow), [_delivery(each, event_type, object_id) for each in told]
            )

    def collect(self, limit: int) -> int:
        """Write down the events of jobs that have ended and whose end somebody wants to know; how many jobs."""
        query = (
            select(JobWebhookRow, JobRow.tenant_id, JobRow.status, JobRow.endpoint)
            .join(JobRow, JobRow.id == JobWebhookRow.job_id)
            .where(JobRow.status.in_(TERMINAL))
            .limit(limit)
            .with_for_update(of=JobWebhookRow, skip_locked=True)
        )
        with self._store.session() as session:
            if session.execute(query.limit(1)).first() is None:
                return 0
        with self._store.change() as session:
            found = session.execute(query).all()
            for wanted, tenant_id, status, endpoint in found:
                # Who was told 503 has no such job.
                if status != JobStatus.REJECTED:
                    event_type = JOB_EVENTS.get(JobStatus(status), JOB_FAILED)
                    name = public_id("resp_", wanted.job_id) if endpoint == RESPONSES else wanted.job_id
                    self.emit(session, tenant_id, event_type, name, endpoint_id=wanted.endpoint_id)
            jobs = [wanted.job_id for wanted, *_ in found]
            session.execute(delete(JobWebhookRow).where(JobWebhookRow.job_id.in_(jobs)))
        return len(jobs)


def _delivery(endpoint_id: str, event_type: str, object_id: str) -> dict[str, Any]:
    at_ms, name = now_ms(), new_id("evt")
    event = {
        "id": name,
        "object": "event",
        "created_at": at_ms // 1000,
        "type": event_type,
        "data": {"id": object_id},
    }
    return {
        "id": name,
        "endpoint_id": endpoint_id,
        "type": event_type,
        "body": to_json(event).decode(),
        "state": PENDING,
        "attempts": 0,
        "next_ms": at_ms,
        "created_ms": at_ms,
        "ended_ms": None,
        "answer_status": None,
        "answer": None,
    }

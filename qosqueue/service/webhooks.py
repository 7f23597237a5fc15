"""Where does a tenant want to be told of events, and with which secret are they signed?

A secret is not kept: it is the HMAC-SHA256 of a random salt (in SQL) under a key of the home (a file that only its
owner may read). So neither the database nor a dump of it holds anything that signs, and it can be shown only once
because nothing but the sender derives it again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.service import audit
from qosqueue.service.fields import Naming, checked_name, may_be_recorded
from qosqueue.service.outbound import checked_url
from qosqueue.service.webhook_events import EVENT_TYPES, JOB_EVENTS, JOB_FAILED
from qosqueue.store.bulk_tables import WebhookDeliveryRow, WebhookEndpointRow
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.last_known import LastKnown
from qosqueue.store.session import Store

MOST_ENDPOINTS = 20
SALT_BYTES = 16
SECRET_START = "whsec_"
HINT_CHARS = 4
ENDPOINT_NAME = Naming(re.compile(r"[^\x00-\x1f\x7f]{1,64}"), "1 to 64 printable characters")


@dataclass(frozen=True)
class WebhookEndpoint:
    """Where events go. `disabled_reason` says why none does any more. Instants are ms since the epoch."""

    id: str
    tenant_id: str
    name: str
    url: str
    event_types: tuple[str, ...]
    enabled: bool
    disabled_reason: str | None
    secret_hint: str
    created_ms: int
    updated_ms: int


class Webhooks:
    """Tenants' endpoints. Every change leaves an audit entry. All methods raise StoreUnavailable."""

    def __init__(self, store: Store, key: Callable[[], bytes], *, private_allowed: bool) -> None:
        self._store = store
        self._key = key
        self._private_allowed = private_allowed
        self._job_listeners: LastKnown[str, bool] = LastKnown(self._hears_of_jobs, monotonic_ms=monotonic_ms)

    def add(
        self, tenant_id: str, *, name: str, url: str, event_types: list[str], actor: str
    ) -> tuple[WebhookEndpoint, str]:
        """Make an endpoint; it and its secret, which is told only now. Raises InvalidField, Conflict if there are
        too many."""
        checked = self._checked(name, url, event_types)
        at_ms = now_ms()
        with self._store.change() as session:
            count = select(func.count()).where(WebhookEndpointRow.tenant_id == tenant_id)
            if (session.scalar(count) or 0) >= MOST_ENDPOINTS:
                raise Conflict(f"a tenant has at most {MOST_ENDPOINTS} webhook endpoints: remove one first")
            row = WebhookEndpointRow(
                id=new_id("whe"),
                tenant_id=tenant_id,
                salt=secrets.token_hex(SALT_BYTES),
                enabled=True,
                disabled_reason=None,
                created_ms=at_ms,
                updated_ms=at_ms,
                **checked,
            )
            session.add(row)
            audit.append(session, actor=actor, action="webhook.add", subject=row.id, after=checked)
            made = self._endpoint_of(row), self._secret(row)
        self._job_listeners.forget()
        return made

    def update(self, tenant_id: str, endpoint_id: str, *, actor: str, **changes: Any) -> WebhookEndpoint:
        """Change name, url or event_types of an endpoint, and let it hear of events again if it was disabled.

        Raises InvalidField, NotFound.
        """
        with self._store.change() as session:
            row = _row(session, tenant_id, endpoint_id)
            before = {"name": row.name, "url": row.url, "event_types": row.event_types}
            after = self._checked(**(before | changes))
            for field, value in after.items():
                setattr(row, field, value)
            row.enabled, row.disabled_reason, row.updated_ms = True, None, now_ms()
            audit.append(session, actor=actor, action="webhook.update", subject=row.id, before=before, after=after)
            changed = self._endpoint_of(row)
        self._job_listeners.forget()
        return changed

    def rotate(self, tenant_id: str, endpoint_id: str, *, actor: str) -> tuple[WebhookEndpoint, str]:
        """Give an endpoint another secret, at once. Raises NotFound."""
        with self._store.change() as session:
            row = _row(session, tenant_id, endpoint_id)
            row.salt, row.updated_ms = secrets.token_hex(SALT_BYTES), now_ms()
            audit.append(session, actor=actor, action="webhook.rotate", subject=row.id)
            return self._endpoint_of(row), self._secret(row)

    def remove(self, tenant_id: str | None, endpoint_id: str, *, actor: str) -> WebhookEndpoint:
        """Take an endpoint away, with what was still to be sent to it. Without a tenant anybody's. Raises NotFound."""
        with self._store.change() as session:
            row = _row(session, tenant_id, endpoint_id)
            gone = self._endpoint_of(row)
            session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.endpoint_id == row.id))
            session.delete(row)
            audit.append(session, actor=actor, action="webhook.remove", subject=gone.id, before={"url": gone.url})
        self._job_listeners.forget()
        return gone

    def get(self, tenant_id: str, endpoint_id: str) -> WebhookEndpoint:
        """A tenant's own endpoint; raises NotFound, the same for another tenant's as for none."""
        with self._store.session() as session:
            return self._endpoint_of(_row(session, tenant_id, endpoint_id))

    def list(self, tenant_id: str | None = None) -> list[WebhookEndpoint]:
        """A tenant's endpoints, or everybody's, oldest first."""
        query = select(WebhookEndpointRow).order_by(WebhookEndpointRow.created_ms, WebhookEndpointRow.id)
        if tenant_id is not None:
            query = query.where(WebhookEndpointRow.tenant_id == tenant_id)
        with self._store.session() as session:
            return [self._endpoint_of(row) for row in session.scalars(query)]

    def named(self, tenant_id: str, id_or_url: str) -> str | None:
        """The id of the tenant's endpoint that has this id or URL; the oldest, if several have the URL."""
        if not may_be_recorded(id_or_url):
            return None
        same = or_(WebhookEndpointRow.id == id_or_url, WebhookEndpointRow.url == id_or_url)
        query = select(WebhookEndpointRow.id).where(WebhookEndpointRow.tenant_id == tenant_id, same)
        with self._store.session() as session:
            return session.scalar(query.order_by(WebhookEndpointRow.created_ms, WebhookEndpointRow.id).limit(1))

    def hears_of_jobs(self, tenant_id: str) -> bool:
        """Whether any endpoint of the tenant wants to be told of the ends of jobs; at most 2 s old."""
        return bool(self._job_listeners.get(tenant_id))

    def secret_of(self, salt: str) -> str:
        """The secret that belongs to a salt, as Standard Webhooks writes it."""
        derived = hmac.new(self._key(), salt.encode(), hashlib.sha256).digest()
        return SECRET_START + base64.b64encode(derived).decode()

    def _hears_of_jobs(self, tenant_id: str) -> bool:
        wanted = {*JOB_EVENTS.values(), JOB_FAILED}
        return any(each.enabled and wanted & set(each.event_types) for each in self.list(tenant_id))

    def _checked(self, name: object, url: object, event_types: object) -> dict[str, Any]:
        types = event_types if isinstance(event_types, list) else []
        if not types or len(types) > len(EVENT_TYPES) or not set(map(str, types)) <= set(EVENT_TYPES):
            raise InvalidField("event_types", f"some of {', '.join(EVENT_TYPES)}", event_types)
        return {
            "name": checked_name("name", name, ENDPOINT_NAME),
            "url": checked_url(url, private_allowed=self._private_allowed),
            "event_types": sorted(set(types)),
        }

    def _secret(self, row: WebhookEndpointRow) -> str:
        return self.secret_of(row.salt)

    def _endpoint_of(self, row: WebhookEndpointRow) -> WebhookEndpoint:
        return WebhookEndpoint(
            id=row.id,
            tenant_id=row.tenant_id,
            name=row.name,
            url=row.url,
            event_types=tuple(row.event_types),
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            secret_hint=f"{SECRET_START}…{self._secret(row)[-HINT_CHARS:]}",
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
        )


def _row(session: Session, tenant_id: str | None, endpoint_id: str) -> WebhookEndpointRow:
    row = None
    if may_be_recorded(endpoint_id):
        query = select(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id)
        if tenant_id is not None:
            query = query.where(WebhookEndpointRow.tenant_id == tenant_id)
        row = session.scalar(query.with_for_update())
    if row is None:
        raise NotFound(f"no webhook endpoint {endpoint_id!r}")
    return row

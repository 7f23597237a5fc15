"""What does the record hold of files, batches and webhooks? Columns are named as in tables.py."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from qosqueue.store.tables import Base, Json


class FileRow(Base):
    """A file of a tenant; its bytes are on disk, named by the id."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    purpose: Mapped[str] = mapped_column(String(16))
    filename: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int]
    created_ms: Mapped[int]
    expires_ms: Mapped[int] = mapped_column(index=True)

    __table_args__ = (Index("ix_files_tenant_created", "tenant_id", "created_ms"),)


class BatchRow(Base):
    """A batch: what was asked, where it stands, and how far its input was read (bytes, lines).

    Who works on it holds it (`holder`) until an instant, and writes nothing once another does. File ids are no foreign
    keys: a file may be gone long before its batch is forgotten.
    """

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    endpoint: Mapped[str] = mapped_column(String(64))
    completion_window: Mapped[str] = mapped_column(String(8))
    input_file_id: Mapped[str] = mapped_column(String(40))
    output_file_id: Mapped[str | None] = mapped_column(String(40))
    error_file_id: Mapped[str | None] = mapped_column(String(40))
    output_ttl_ms: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(16), index=True)
    errors: Mapped[Json | None]
    details: Mapped[Json | None]
    total: Mapped[int]
    completed: Mapped[int]
    failed: Mapped[int]
    read_bytes: Mapped[int]
    read_lines: Mapped[int]
    holder: Mapped[str | None] = mapped_column(String(32))
    held_until_ms: Mapped[int]
    created_ms: Mapped[int]
    expires_ms: Mapped[int]
    in_progress_ms: Mapped[int | None]
    finalizing_ms: Mapped[int | None]
    completed_ms: Mapped[int | None]
    failed_ms: Mapped[int | None]
    expired_ms: Mapped[int | None]
    cancelling_ms: Mapped[int | None]
    cancelled_ms: Mapped[int | None]

    __table_args__ = (Index("ix_batches_tenant_created", "tenant_id", "created_ms"),)


class BatchLineRow(Base):
    """A line of a batch's input: where it stands in the file, and the job that it became. Numbers begin at 1."""

    __tablename__ = "batch_lines"
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    custom_id: Mapped[str | None] = mapped_column(String(512))
    state: Mapped[str] = mapped_column(String(16))
    offset: Mapped[int]
    length: Mapped[int]
    job_id: Mapped[str | None] = mapped_column(String(40))
    error: Mapped[Json | None]

    __table_args__ = (
        Index("ix_batch_lines_state", "batch_id", "state", "number"),
        Index("ix_batch_lines_custom_id", "batch_id", "custom_id"),
    )


class WebhookEndpointRow(Base):
    """Where a tenant wants to be told of events. Its secret is derived from `salt` and a key at home."""

    __tablename__ = "webhook_endpoints"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(String(2048))
    event_types: Mapped[list[Any]] = mapped_column(JSON)
    salt: Mapped[str] = mapped_column(String(32))
    enabled: Mapped[bool]
    disabled_reason: Mapped[str | None] = mapped_column(String(200))
    created_ms: Mapped[int]
    updated_ms: Mapped[int]


class WebhookDeliveryRow(Base):
    """One event for one endpoint, from the transaction in which it happened until it was taken or given up."""

    __tablename__ = "webhook_deliveries"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"), index=True)
    type: Mapped[str] = mapped_column(String(32))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    next_ms: Mapped[int]
    created_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    answer_status: Mapped[int | None]
    answer: Mapped[str | None] = mapped_column(String(500))

    __table_args__ = (Index("ix_webhook_deliveries_due", "state", "next_ms"),)


class JobWebhookRow(Base):
    """A job whose end somebody is to be told: at one endpoint, or (null) at all that ask for such events."""

    __tablename__ = "job_webhooks"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    endpoint_id: Mapped[str | None] = mapped_column(String(40))


# Complete once this module is imported: these tables and those of tables.py.
ALL_TABLES = Base.metadata

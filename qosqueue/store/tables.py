"""What does the record hold? The tables, as SQLAlchemy 2 classes; one definition for web, workers and migrations.

Every `*_ms` column is milliseconds since the epoch (or a length in ms where the name says budget or target).
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Base of all tables."""

    # Named, so that a later migration can drop them on either database.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    # SQLite numbers its rows by itself only in a column of type INTEGER. A None in a JSON column is SQL's NULL.
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger().with_variant(Integer, "sqlite"),
        Json: JSON(none_as_null=True),
    }


class TierRow(Base):
    """A class of tenants: the priorities it may take (0 first), its weight and its default targets.

    New tenants take their weight from here. The rest shows whoever reads the database what the constants of
    `qosqueue.policy` were when the row was made: scheduling goes by those, and a change here changes nothing.
    """

    __tablename__ = "tiers"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    priority_first: Mapped[int]
    priority_last: Mapped[int]
    weight: Mapped[int]
    online_target_ms: Mapped[int]
    success_target_percent: Mapped[int]


class TenantRow(Base):
    """Who is billed and treated fairly. A null target or limit means: the default of the tier's constants, no limit.

    Tenants of one `organisation` count as one in the order; null: the tenant alone. `contracted_percent` is what it may
    claim of each pool without losing place, `max_running` how many of its attempts run at once.
    """

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    tier: Mapped[str] = mapped_column(ForeignKey("tiers.name"))
    weight: Mapped[int]
    online_target_ms: Mapped[int | None]
    success_target_percent: Mapped[int | None]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    organisation: Mapped[str | None] = mapped_column(String(64))
    contracted_percent: Mapped[int | None]
    max_running: Mapped[int | None]
    enabled: Mapped[bool]
    created_ms: Mapped[int]
    updated_ms: Mapped[int]


class KeyRow(Base):
    """A tenant's API key: the first characters to tell it apart, and the SHA-256 of the whole."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    prefix: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_ms: Mapped[int]
    revoked_ms: Mapped[int | None]


class UserRow(Base):
    """Somebody who may log in to the admin pages. The password is an argon2 hash."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(256))
    role: Mapped[str] = mapped_column(String(16))
    created_ms: Mapped[int]


class ModelRow(Base):
    """A model that may be asked for, and the engine that runs it. `options` belong to the engine."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    engine: Mapped[str] = mapped_column(String(32))
    weight_class: Mapped[str] = mapped_column(String(16))
    memory_bytes: Mapped[int]
    context_tokens: Mapped[int]
    slots: Mapped[int]
    options: Mapped[Json]
    enabled: Mapped[bool]
    created_ms: Mapped[int]


class JobRow(Base):
    """One request: asynchronous ones are committed before they are queued, synchronous ones when they end."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    model: Mapped[str] = mapped_column(String(64))
    endpoint: Mapped[str] = mapped_column(String(64))
    task_type: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int]
    routing_key: Mapped[str] = mapped_column(String(32))
    latency_class: Mapped[str] = mapped_column(String(16))
    latency_budget_ms: Mapped[int]
    cost_tokens: Mapped[int]
    body: Mapped[Json]
    details: Mapped[Json]
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    attempts: Mapped[int]
    fence: Mapped[int]
    worker: Mapped[str | None] = mapped_column(Text)
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    created_ms: Mapped[int]
    expires_ms: Mapped[int]
    queued_ms: Mapped[int | None]
    started_ms: Mapped[int | None]
    first_token_ms: Mapped[int | None]
    finished_ms: Mapped[int | None]

    __table_args__ = (
        Index("ix_jobs_tenant_created", "tenant_id", "created_ms"),
        Index("ix_jobs_status_created", "status", "created_ms"),
    )


class AuditRow(Base):
    """Who changed what, when, from what, to what. Rows are only ever added."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at_ms: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(48))
    subject: Mapped[str] = mapped_column(String(120))
    before: Mapped[Json | None]
    after: Mapped[Json | None]


class WatchdogRunRow(Base):
    """One run of a watchdog task, and what it did."""

    __tablename__ = "watchdog_runs"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(32))
    started_ms: Mapped[int] = mapped_column(index=True)
    duration_us: Mapped[int]
    outcome: Mapped[Json]

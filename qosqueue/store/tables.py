"""What does the record hold? The tables, as SQLAlchemy 2 classes; one definition for web, workers and migrations.

Every `*_ms` column is milliseconds since the epoch (or a length in ms where the name says budget or target).
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]
Words = list[str]


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
        Words: JSON(none_as_null=True),
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
    claim of each pool without losing place, `max_running` how many of its attempts run at once, `max_in_flight` how
    many of its requests are accepted and not ended, `max_queued` how many wait. The targets of the latency classes are
    ms until an answer begins; of 10,000 requests `error_budget_per_10k` may miss what was agreed. `on_late` and `road`
    (in its order) say what is done when a request would come late or fails: policy/terms.py. `source` is where its
    last change came from: page, command or file.
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
    tokens_per_day: Mapped[int | None]
    gpu_seconds_per_day: Mapped[int | None]
    max_in_flight: Mapped[int | None]
    max_queued: Mapped[int | None]
    high_target_ms: Mapped[int | None]
    medium_target_ms: Mapped[int | None]
    low_target_ms: Mapped[int | None]
    error_budget_per_10k: Mapped[int | None]
    on_late: Mapped[str | None] = mapped_column(String(16))
    road: Mapped[Words | None]
    source: Mapped[str | None] = mapped_column(String(16))


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


class UserTokenRow(Base):
    """A user's token for the admin API: the first characters to tell it apart, and the SHA-256 of the whole."""

    __tablename__ = "user_tokens"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    prefix: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_ms: Mapped[int]
    revoked_ms: Mapped[int | None]


class ModelRow(Base):
    """A model that may be asked for, and the engine that runs it. `options` belong to the engine.

    `parameters` is how many the model has, `measured_ms` what one step of it took; `weight_basis` says what its weight
    class comes from: given, measured, memory or parameters. `fallback_model` answers in its place on the road of
    failures; no foreign key, because SQLite could not drop it again. `prewarm` is the rule of loading ahead.
    """

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
    parameters: Mapped[int | None]
    measured_ms: Mapped[int | None]
    weight_basis: Mapped[str | None] = mapped_column(String(16))
    fallback_model: Mapped[str | None] = mapped_column(String(64))
    prewarm: Mapped[str | None] = mapped_column(String(32))
    source: Mapped[str | None] = mapped_column(String(16))


class OverrideRow(Base):
    """Limits and targets of their own for a model, a task type or both: of one tenant, or (null) of each tenant.

    `scope` is the three in one text, because null is unique to no database. What is null is not overridden.
    """

    __tablename__ = "overrides"
    scope: Mapped[str] = mapped_column(String(128), primary_key=True)
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.id"))
    model: Mapped[str | None] = mapped_column(ForeignKey("models.name"))
    task_type: Mapped[str | None] = mapped_column(String(16))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    tokens_per_day: Mapped[int | None]
    gpu_seconds_per_day: Mapped[int | None]
    max_in_flight: Mapped[int | None]
    max_queued: Mapped[int | None]
    online_target_ms: Mapped[int | None]
    high_target_ms: Mapped[int | None]
    medium_target_ms: Mapped[int | None]
    low_target_ms: Mapped[int | None]
    success_target_percent: Mapped[int | None]
    error_budget_per_10k: Mapped[int | None]
    on_late: Mapped[str | None] = mapped_column(String(16))
    road: Mapped[Words | None]
    source: Mapped[str] = mapped_column(String(16))
    updated_ms: Mapped[int]


class ScenarioRow(Base):
    """The start budget of what a tenant asks of a model for one task type without saying a budget.

    `budget_ms` was learned from `observed` finished requests, the last of which ended at `seen_ms`; an operator's
    `lower_ms` and `upper_ms` bound it.
    """

    __tablename__ = "scenario_defaults"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name", ondelete="CASCADE"), primary_key=True)
    task_type: Mapped[str] = mapped_column(String(16), primary_key=True)
    budget_ms: Mapped[int | None]
    observed: Mapped[int]
    lower_ms: Mapped[int | None]
    upper_ms: Mapped[int | None]
    seen_ms: Mapped[int]
    source: Mapped[str | None] = mapped_column(String(16))


class PolicyVersionRow(Base):
    """The whole policy after one change: who made it, when, why, and where it came from (page, command or file).

    Of old versions only the document is dropped. Rows are only ever added.
    """

    __tablename__ = "policy_versions"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_ms: Mapped[int]
    actor: Mapped[str] = mapped_column(String(80))
    why: Mapped[str] = mapped_column(String(500))
    source: Mapped[str] = mapped_column(String(16))
    document: Mapped[Json | None]


class JobRow(Base):
    """One request: asynchronous ones are committed before they are queued, synchronous ones when they end.

    `cost_ms` is the predicted service that it was queued with; `gpu_ms` for how long the attempt whose end is stored
    here held a slot, null if nothing was served.
    """

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
    cost_ms: Mapped[int | None]
    body: Mapped[Json]
    details: Mapped[Json]
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    attempts: Mapped[int]
    fence: Mapped[int]
    worker: Mapped[str | None] = mapped_column(Text)
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    gpu_ms: Mapped[int | None]
    created_ms: Mapped[int]
    expires_ms: Mapped[int]
    queued_ms: Mapped[int | None]
    started_ms: Mapped[int | None]
    first_token_ms: Mapped[int | None]
    finished_ms: Mapped[int | None]

    __table_args__ = (
        Index("ix_jobs_tenant_created", "tenant_id", "created_ms"),
        Index("ix_jobs_status_created", "status", "created_ms"),
        Index("ix_jobs_finished", "finished_ms"),
        Index("ix_jobs_model_started", "model", "started_ms"),
    )


class IdempotencyRow(Base):
    """A key under which a tenant asks for something once. `running_until_ms` null: it was answered, with `answer`.

    `claim` names whoever holds it; `made_id` is the id of the job that it makes.
    """

    __tablename__ = "idempotency_keys"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    claim: Mapped[str] = mapped_column(String(32), unique=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    made_id: Mapped[str] = mapped_column(String(40))
    running_until_ms: Mapped[int | None]
    expires_ms: Mapped[int] = mapped_column(index=True)
    answer: Mapped[Json | None]


class DecisionRow(Base):
    """One decision about a request; goes with its row."""

    __tablename__ = "decisions"
    request_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_ms: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    facts: Mapped[Json]


class UsageRow(Base):
    """What a tenant used of a model on a day (UTC). It outlives the rows of the requests that it sums up."""

    __tablename__ = "usage"
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    gpu_ms: Mapped[int]


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

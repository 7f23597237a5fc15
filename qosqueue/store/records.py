"""What does the record hand out? Frozen copies of rows, free of any session.

Every `*_ms` field is milliseconds since the epoch, or a length in ms where the name says budget or target.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.store.tables import AuditRow, JobRow, KeyRow, ModelRow, TenantRow, UserRow


class Role(StrEnum):
    """What somebody may do in the admin pages: change all, run the queues, look."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True)
class Tenant:
    """Who is billed and treated fairly. A None target means the tier's default, a None limit no limit.

    `contracted_percent` is of each pool; `max_running` caps the attempts that run at once.
    """

    id: str
    name: str
    tier: Tier
    weight: int
    online_target_ms: int | None
    success_target_percent: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    organisation: str | None
    contracted_percent: int | None
    max_running: int | None
    enabled: bool
    created_ms: int
    updated_ms: int

    @property
    def counts_as(self) -> str:
        """Its organisation in the order: that of the record, else the tenant itself by its id."""
        return self.organisation or self.id


@dataclass(frozen=True)
class Key:
    """An API key as it may be listed: its prefix tells it apart, the key itself is not known any more."""

    id: str
    tenant_id: str
    prefix: str
    created_ms: int
    revoked_ms: int | None


@dataclass(frozen=True)
class NewKey:
    """A key just made: the only time that `key` exists in clear. `tenant` is the tenant's name."""

    id: str
    key: str
    prefix: str
    tenant: str


@dataclass(frozen=True)
class User:
    """Somebody who may log in to the admin pages."""

    id: str
    name: str
    role: Role


@dataclass(frozen=True)
class Model:
    """A model that may be asked for. Memory in bytes, context in tokens; `options` belong to the engine."""

    name: str
    engine: str
    weight_class: WeightClass
    memory_bytes: int
    context_tokens: int
    slots: int
    options: dict[str, Any]
    enabled: bool
    created_ms: int


@dataclass(frozen=True)
class Job:
    """One request and what became of it. `fence` is the rising number of its latest lease."""

    id: str
    tenant_id: str
    model: str
    endpoint: str
    task_type: TaskType
    status: JobStatus
    priority: int
    routing_key: str
    latency_class: str
    latency_budget_ms: int
    cost_tokens: int
    body: dict[str, Any]
    details: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    attempts: int
    fence: int
    worker: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created_ms: int
    expires_ms: int
    queued_ms: int | None
    started_ms: int | None
    first_token_ms: int | None
    finished_ms: int | None


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what, when, from what, to what."""

    id: int
    at_ms: int
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def tenant_of(row: TenantRow) -> Tenant:
    """The row as a record."""
    return Tenant(**(_columns(row) | {"tier": Tier(row.tier)}))


def key_of(row: KeyRow) -> Key:
    """The row as a record, without the hash."""
    return Key(
        id=row.id, tenant_id=row.tenant_id, prefix=row.prefix, created_ms=row.created_ms, revoked_ms=row.revoked_ms
    )


def user_of(row: UserRow) -> User:
    """The row as a record, without the password's hash."""
    return User(id=row.id, name=row.name, role=Role(row.role))


def model_of(row: ModelRow) -> Model:
    """The row as a record."""
    return Model(**(_columns(row) | {"weight_class": WeightClass(row.weight_class)}))


def job_of(row: JobRow) -> Job:
    """The row as a record."""
    return Job(**(_columns(row) | {"status": JobStatus(row.status), "task_type": TaskType(row.task_type)}))


def audit_entry_of(row: AuditRow) -> AuditEntry:
    """The row as a record."""
    return AuditEntry(**_columns(row))


def _columns(row: TenantRow | ModelRow | JobRow | AuditRow) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs}

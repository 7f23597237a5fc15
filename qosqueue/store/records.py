"""What does the record hand out? Frozen copies of rows, free of any session.

Every `*_ms` field is milliseconds since the epoch, or a length in ms where the name says budget or target.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import OnLate, RoadStep, TaskType, Tier, WeightClass
from qosqueue.store.tables import (
    AuditRow,
    Base,
    JobRow,
    KeyRow,
    ModelRow,
    OverrideRow,
    PolicyVersionRow,
    ScenarioRow,
    TenantRow,
    UserRow,
    UserTokenRow,
)


class Role(StrEnum):
    """What somebody may do in the admin pages: change all, run the queues, look."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True)
class Tenant:
    """Who is billed and treated fairly. A None target means the tier's default, a None limit no limit.

    `contracted_percent` is of each pool; `max_running` caps the attempts that run at once, `max_in_flight` the requests
    that are accepted and not ended, `max_queued` those that wait. `road` in its order; None: the default.
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
    tokens_per_day: int | None = None
    gpu_seconds_per_day: int | None = None
    max_in_flight: int | None = None
    max_queued: int | None = None
    high_target_ms: int | None = None
    medium_target_ms: int | None = None
    low_target_ms: int | None = None
    error_budget_per_10k: int | None = None
    on_late: OnLate | None = None
    road: tuple[RoadStep, ...] | None = None
    source: str | None = None

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
class UserToken:
    """A token as it may be listed: its prefix tells it apart, `user` is its user's name."""

    id: str
    user: str
    prefix: str
    created_ms: int
    revoked_ms: int | None


@dataclass(frozen=True)
class NewUserToken:
    """A token just made: the only time that `token` exists in clear. `user` is its user's name."""

    id: str
    token: str
    prefix: str
    user: str


@dataclass(frozen=True)
class Model:
    """A model that may be asked for. Memory in bytes, context in tokens; `options` belong to the engine.

    `weight_basis` is what its weight class comes from: given, measured, memory or parameters.
    """

    name: str
    engine: str
    weight_class: WeightClass
    memory_bytes: int
    context_tokens: int
    slots: int
    options: dict[str, Any]
    enabled: bool
    created_ms: int
    parameters: int | None = None
    measured_ms: int | None = None
    weight_basis: str | None = None
    fallback_model: str | None = None
    prewarm: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Override:
    """What holds for a model, a task type or both in place of a tenant's own; without a tenant, for each tenant.

    A None overrides nothing. Its limits count only what comes under it, beside those of the tenant as a whole.
    """

    scope: str
    tenant_id: str | None
    model: str | None
    task_type: TaskType | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    gpu_seconds_per_day: int | None
    max_in_flight: int | None
    max_queued: int | None
    online_target_ms: int | None
    high_target_ms: int | None
    medium_target_ms: int | None
    low_target_ms: int | None
    success_target_percent: int | None
    error_budget_per_10k: int | None
    on_late: OnLate | None
    road: tuple[RoadStep, ...] | None
    source: str
    updated_ms: int


@dataclass(frozen=True)
class Scenario:
    """The start budget of a tenant's requests to a model, of one task type, that do not state one.

    `budget_ms` is learned from `observed` requests, the last of which ended at `seen_ms`, within the bounds.
    """

    tenant_id: str
    model: str
    task_type: TaskType
    budget_ms: int | None
    observed: int
    lower_ms: int | None
    upper_ms: int | None
    seen_ms: int
    source: str | None


@dataclass(frozen=True)
class PolicyVersion:
    """One version of the whole policy; `document` is None where it is too old to be kept."""

    number: int
    at_ms: int
    actor: str
    why: str
    source: str
    document: dict[str, Any] | None


@dataclass(frozen=True)
class Job:
    """One request and what became of it. `fence` is the rising number of its latest lease; `gpu_ms` is None if nothing
    was served."""

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
    cost_ms: int | None
    body: dict[str, Any]
    details: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    attempts: int
    fence: int
    worker: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    gpu_ms: int | None
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
    return Tenant(**(_columns(row) | {"tier": Tier(row.tier)} | _conduct(row)))


def key_of(row: KeyRow) -> Key:
    """The row as a record, without the hash."""
    return Key(
        id=row.id, tenant_id=row.tenant_id, prefix=row.prefix, created_ms=row.created_ms, revoked_ms=row.revoked_ms
    )


def user_of(row: UserRow) -> User:
    """The row as a record, without the password's hash."""
    return User(id=row.id, name=row.name, role=Role(row.role))


def user_token_of(row: UserTokenRow, user: str) -> UserToken:
    """The row as a record, without the hash."""
    return UserToken(id=row.id, user=user, prefix=row.prefix, created_ms=row.created_ms, revoked_ms=row.revoked_ms)


def model_of(row: ModelRow) -> Model:
    """The row as a record."""
    return Model(**(_columns(row) | {"weight_class": WeightClass(row.weight_class)}))


def override_of(row: OverrideRow) -> Override:
    """The row as a record."""
    task_type = None if row.task_type is None else TaskType(row.task_type)
    return Override(**(_columns(row) | {"task_type": task_type} | _conduct(row)))


def scenario_of(row: ScenarioRow) -> Scenario:
    """The row as a record."""
    return Scenario(**(_columns(row) | {"task_type": TaskType(row.task_type)}))


def policy_version_of(row: PolicyVersionRow) -> PolicyVersion:
    """The row as a record."""
    return PolicyVersion(**_columns(row))


def job_of(row: JobRow) -> Job:
    """The row as a record."""
    return Job(**(_columns(row) | {"status": JobStatus(row.status), "task_type": TaskType(row.task_type)}))


def audit_entry_of(row: AuditRow) -> AuditEntry:
    """The row as a record."""
    return AuditEntry(**_columns(row))


def _conduct(row: TenantRow | OverrideRow) -> dict[str, Any]:
    return {
        "on_late": None if row.on_late is None else OnLate(row.on_late),
        "road": None if row.road is None else tuple(map(RoadStep, row.road)),
    }


def _columns(row: Base) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs}

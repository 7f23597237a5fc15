"""What does the admin API answer? Every `*_ms` of an instant is milliseconds since the epoch, null: not yet."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class TenantShape(BaseModel):
    """A tenant. A null target means the tier's default, a null limit no limit."""

    id: str
    name: str
    tier: str
    weight: int
    organisation: str | None
    enabled: bool
    online_target_ms: int | None
    high_target_ms: int | None
    medium_target_ms: int | None
    low_target_ms: int | None
    success_target_percent: int | None
    error_budget_per_10k: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    gpu_seconds_per_day: int | None
    max_in_flight: int | None
    max_queued: int | None
    contracted_percent: int | None
    max_running: int | None
    on_late: str | None
    road: list[str] | None
    created_ms: int
    updated_ms: int
    source: str | None


class TenantList(BaseModel):
    """All tenants."""

    data: list[TenantShape]


class KeyShape(BaseModel):
    """A key as it may be listed."""

    id: str
    tenant_id: str
    prefix: str
    created_ms: int
    revoked_ms: int | None


class KeyList(BaseModel):
    """A tenant's keys."""

    data: list[KeyShape]


class NewKeyShape(BaseModel):
    """A key just made."""

    id: str
    key: str
    prefix: str
    tenant: str


class LaneShape(BaseModel):
    """One lane now."""

    lane: str
    depth: int
    oldest_wait_ms: int | None
    in_flight: int
    relegated: int
    batch: int
    later: int
    dead: int


class LaneList(BaseModel):
    """Every lane, also the empty ones."""

    data: list[LaneShape]


class LimitShape(BaseModel):
    """A limit in force: at most `most` attempts run under its name, `running` do now."""

    name: str
    tenant: str | None
    lane: str | None
    model: str | None
    most: int
    until_ms: int | None
    running: int


class LimitList(BaseModel):
    """The limits in force."""

    data: list[LimitShape]


class DeadLetterShape(BaseModel):
    """One message that was given up."""

    tag: str
    task: str
    lane: str
    model: str
    tenant: str
    attempts: int
    died_ms: int
    why: str | None


class DeadLetterList(BaseModel):
    """Dead letters, the last to die first."""

    data: list[DeadLetterShape]


class JobShape(BaseModel):
    """A job without what was asked and answered: these are the tenant's."""

    id: str
    tenant_id: str
    model: str
    endpoint: str
    task_type: str
    status: str
    priority: int
    routing_key: str
    latency_class: str
    latency_budget_ms: int
    cost_tokens: int
    attempts: int
    worker: str | None
    error: dict[str, Any] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created_ms: int
    expires_ms: int
    queued_ms: int | None
    started_ms: int | None
    first_token_ms: int | None
    finished_ms: int | None


class JobPage(BaseModel):
    """Jobs, newest first; `last_id` is the `before` of the next page."""

    data: list[JobShape]
    has_more: bool
    last_id: str | None


class ModelShape(BaseModel):
    """A model of the catalog."""

    name: str
    engine: str
    weight_class: str
    memory_bytes: int
    context_tokens: int
    slots: int
    fallback_model: str | None
    prewarm: str | None
    enabled: bool
    created_ms: int


class ModelShapeList(BaseModel):
    """All models, disabled ones too."""

    data: list[ModelShape]


class ReplicaShape(BaseModel):
    """A replica that was heard of lately."""

    worker: str
    model: str
    slots: int
    busy: int
    gpu: str | None
    state: str
    started_ms: int
    seen_ms: int


class ReplicaList(BaseModel):
    """All replicas."""

    data: list[ReplicaShape]


class AuditShape(BaseModel):
    """Who changed what, when, from what, to what."""

    id: int
    at_ms: int
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditList(BaseModel):
    """Audit entries, newest first."""

    data: list[AuditShape]

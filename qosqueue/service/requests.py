"""What is a request inside qosqueue, and what travels to the worker?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qosqueue.policy.asked import Asked
from qosqueue.policy.profile import WINDOW, Profile
from qosqueue.policy.quota import Verdict
from qosqueue.policy.refusal import Rates
from qosqueue.policy.road import attempts_for
from qosqueue.policy.terms import LatencyClass, ServiceTier, TaskType, Tier, WeightClass
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision
from qosqueue.store.ids import new_id
from qosqueue.store.records import Job, Model, Tenant


@dataclass(frozen=True)
class JobRequest:
    """A checked request of a tenant. Lengths in tokens (the prompt's is an estimate), times in ms.

    `id` is that of its job: whoever submits the same id again gets the job that is there (service/idempotency.py).
    """

    endpoint: str
    model: str
    body: dict[str, Any]
    task_type: TaskType
    prompt_tokens: int
    max_output_tokens: int
    latency_budget_ms: int | None = None
    ttl_ms: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    # Which endpoint is to be told of the job's end, whatever it asks for.
    webhook: str | None = None
    # Whether somebody reads the answer token by token.
    stream: bool = False
    # Whether an attempt that the engine has failed is repeated; what was changed of what the tenant had asked for, in
    # the words of the answer and of the record.
    again: bool = True
    detours: tuple[str, ...] = ()
    changed: tuple[Decision, ...] = ()
    # Whether its client, which waits, takes a job for an answer.
    may_defer: bool = False
    # Whether it is let in although its model is out of service: it waits until that is back.
    waits_for_model: bool = False
    # Whether it is let in however late it would start.
    may_be_late: bool = False
    service_tier: ServiceTier = ServiceTier.DEFAULT
    traceparent: str | None = None
    # Whether a synchronous answer can be asked for again: then its row is written before its last word is said.
    recorded_at_once: bool = False
    # Whether its client gave a key, under which the same id may come again.
    is_keyed: bool = False
    id: str = field(default_factory=partial(new_id, "job"))


@dataclass(frozen=True)
class Admitted:
    """A request that may be queued: the model that it will run on, its profile, what its tenant has left, what it was
    asked for at the door, and the door's verdict."""

    model: Model
    profile: Profile
    rates: Rates
    asked: Sequence[Asked]
    verdict: Verdict


def wire_message(
    request_id: str, request: JobRequest, created_ms: int, profile: Profile, *, reply: str | None
) -> dict[str, Any]:
    """The task's argument. A job's body stays in SQL: big prompts must not fill the broker."""
    return {
        "id": request_id,
        "model": request.model,
        "endpoint": request.endpoint,
        "created_ms": created_ms,
        "expires_ms": created_ms + profile.ttl_ms,
        "reply": reply,
        "stream": request.stream,
        "again": request.again,
        "service_tier": profile.service_tier,
        "traceparent": request.traceparent,
        "body": request.body if reply is not None else None,
    }


def new_row(request_id: str, tenant: Tenant, request: JobRequest, profile: Profile, **columns: Any) -> dict[str, Any]:
    """A whole row of the jobs table for a request that was just admitted; `columns` win."""
    created_ms = now_ms()
    return {
        "id": request_id,
        "tenant_id": tenant.id,
        "model": request.model,
        "endpoint": request.endpoint,
        "task_type": request.task_type,
        "priority": profile.priority,
        "routing_key": profile.routing_key,
        "latency_class": profile.latency_class,
        "latency_budget_ms": profile.latency_budget_ms,
        "cost_tokens": profile.cost_tokens,
        "cost_ms": profile.cost_ms,
        "body": request.body,
        "details": request.details
        | {"service_tier": profile.service_tier.value}
        | ({"detours": list(request.detours)} if request.detours else {}),
        "result": None,
        "error": None,
        "attempts": 0,
        "fence": 0,
        "worker": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "gpu_ms": None,
        "created_ms": created_ms,
        "expires_ms": created_ms + profile.ttl_ms,
        "queued_ms": None,
        "started_ms": None,
        "first_token_ms": None,
        "finished_ms": None,
    } | columns


def profile_of_row(job: Job) -> Profile:
    """The profile that it was queued with, as its row says; of its time to live and its attempts, the rest."""
    tier, _, weight = job.routing_key.partition(".")
    return Profile(
        tier=Tier(tier),
        weight_class=WeightClass(weight),
        latency_class=LatencyClass(job.latency_class),
        task_type=job.task_type,
        priority=job.priority,
        latency_budget_ms=job.latency_budget_ms,
        ttl_ms=max(1, job.expires_ms - now_ms()),
        cost_tokens=job.cost_tokens,
        cost_ms=job.cost_ms or 0,
        routing_key=job.routing_key,
        window=WINDOW[WeightClass(weight)],
        max_attempts=max(1, attempts_for(job.task_type, None) - job.attempts),
        service_tier=ServiceTier(job.details.get("service_tier", ServiceTier.DEFAULT)),
    )

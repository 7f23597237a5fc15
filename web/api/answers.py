"""What does the API answer? The shapes, for the document at /openapi.json, and how a record becomes one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from qosqueue.policy.terms import ServiceTier
from qosqueue.service.answers import usage_of
from qosqueue.service.explain import Explanation
from qosqueue.store.records import Job, Model
from qosqueue_web.api.errors import error_type


class ErrorDetail(BaseModel):
    """Why a request failed. `param` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every failure's body."""

    error: ErrorDetail


class Usage(BaseModel):
    """Tokens counted by the engine."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """OpenAI's answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None
    service_tier: str


class TextCompletion(BaseModel):
    """OpenAI's answer to a plain completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None
    service_tier: str


class EmbeddingUsage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """OpenAI's answer to /v1/embeddings: a vector for each input, as numbers or as base64 of little-endian float32."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    model: str
    usage: EmbeddingUsage
    service_tier: str


class ResponseAnswer(BaseModel):
    """A response as it stands; `output` is empty until it has ended."""

    id: str
    object: Literal["response"]
    created_at: float
    model: str
    service_tier: str
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: dict[str, str] | None
    incomplete_details: dict[str, str] | None
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    temperature: float | None
    top_p: float | None
    parallel_tool_calls: bool
    tool_choice: str
    tools: list[dict[str, Any]]
    text: dict[str, Any]
    previous_response_id: str | None


class ModelAnswer(BaseModel):
    """A model that may be asked for. `created` in seconds since the epoch."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "qosqueue"
    weight_class: str
    context_tokens: int


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


class JobAnswer(BaseModel):
    """A job. Every `*_at` is seconds since the epoch, with milliseconds in the fraction; null: not yet."""

    id: str
    object: Literal["job"] = "job"
    status: str
    model: str
    endpoint: str
    task_type: str
    service_tier: str
    priority: int
    lane: str
    latency_class: str
    latency_budget_ms: int
    created_at: float
    expires_at: float
    queued_at: float | None
    started_at: float | None
    first_token_at: float | None
    finished_at: float | None
    attempts: int
    result: dict[str, Any] | None
    error: ErrorDetail | None
    usage: Usage | None
    metadata: dict[str, str]


class JobList(BaseModel):
    """A page of jobs, newest first; `last_id` is the `before` of the next page."""

    object: Literal["list"] = "list"
    data: list[JobAnswer]
    has_more: bool
    last_id: str | None


class ExplainedSentence(BaseModel):
    """What happened, and when; `at` null: it holds now."""

    at: float | None
    text: str


class ExplainedDecision(BaseModel):
    """One decision, and the facts that it went by. Lengths of time are in ms and end in `_ms`."""

    kind: str
    at: float
    facts: dict[str, Any]


class ExplainedTenant(BaseModel):
    """Whose requests of the same model began while this one waited: `you` or `another tenant`."""

    tenant: str
    requests: int


class ExplanationAnswer(BaseModel):
    """Why a request waited and what was decided about it. Every `at` is seconds since the epoch."""

    id: str
    object: Literal["job.explanation"] = "job.explanation"
    status: str
    text: str
    sentences: list[ExplainedSentence]
    decisions: list[ExplainedDecision]
    began_before: list[ExplainedTenant]


class Health(BaseModel):
    """Whether the process, or the service, can do its work; `reasons` when it cannot."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] = []


def model_answer(model: Model) -> ModelAnswer:
    """The model as OpenAI shows one."""
    return ModelAnswer(
        id=model.name,
        created=model.created_ms // 1000,
        weight_class=model.weight_class,
        context_tokens=model.context_tokens,
    )


def job_answer(job: Job) -> JobAnswer:
    """The job as its tenant may see it."""
    usage = None
    if job.prompt_tokens is not None and job.completion_tokens is not None:
        usage = Usage(**usage_of(job.prompt_tokens, job.completion_tokens))
    return JobAnswer(
        id=job.id,
        status=job.status,
        model=job.model,
        endpoint=job.endpoint,
        task_type=job.task_type,
        service_tier=job.details.get("service_tier", ServiceTier.DEFAULT),
        priority=job.priority,
        lane=job.routing_key,
        latency_class=job.latency_class,
        latency_budget_ms=job.latency_budget_ms,
        created_at=job.created_ms / 1000,
        expires_at=job.expires_ms / 1000,
        queued_at=_seconds(job.queued_ms),
        started_at=_seconds(job.started_ms),
        first_token_at=_seconds(job.first_token_ms),
        finished_at=_seconds(job.finished_ms),
        attempts=job.attempts,
        result=job.result,
        error=None if job.error is None else _error(job.error),
        usage=usage,
        metadata=job.details.get("metadata") or {},
    )


def explanation_answer(told: Explanation) -> ExplanationAnswer:
    """The explanation as its tenant may see it."""
    return ExplanationAnswer(
        id=told.id,
        status=told.status,
        text=told.text,
        sentences=[ExplainedSentence(at=_seconds(each.at_ms), text=each.text) for each in told.sentences],
        decisions=[
            ExplainedDecision(kind=each.kind, at=each.at_ms / 1000, facts=each.facts) for each in told.decisions
        ],
        began_before=[ExplainedTenant(tenant=tenant, requests=count) for tenant, count in told.began_before],
    )


def _seconds(at_ms: int | None) -> float | None:
    return None if at_ms is None else at_ms / 1000


def _error(error: dict[str, Any]) -> ErrorDetail:
    return ErrorDetail(
        message=str(error.get("message") or "the job failed"),
        type=error_type(int(error.get("status") or 500)),
        param=error.get("param"),
        code=error.get("code"),
    )

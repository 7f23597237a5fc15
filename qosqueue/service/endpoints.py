"""Which requests may be made, at once, as a job or as a line of a batch, and what does their body become?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.asked_model import find_model
from qosqueue.service.bodies import Asked, ChatBody
from qosqueue.service.body_faults import invalid_value, refusal_of_validation
from qosqueue.service.catalog import Catalog
from qosqueue.service.completion_body import CompletionBody
from qosqueue.service.embedding_body import EmbeddingBody
from qosqueue.service.requests import JobRequest
from qosqueue.service.response_body import ResponseBody

# The one list, by address.
ENDPOINTS: dict[str, type[Asked]] = {
    body.endpoint: body for body in (ChatBody, CompletionBody, EmbeddingBody, ResponseBody)
}


def too_long_for(catalog: Catalog, body: Asked, param: str = "") -> Refusal | None:
    """Why this request can be refused at the door: an unknown model, or a prompt that fits in no way. Else None."""
    model = find_model(catalog, body.model)
    if isinstance(model, Refusal):
        return replace(model, param=f"{param}{model.param}")
    if body.cannot_fit(model.context_tokens):
        message = f"the prompt is longer than the model's context of {model.context_tokens} tokens"
        return Refusal(400, "context_length_exceeded", message, f"{param}{body.prompt_field}")
    return None


def refused_to_wait(catalog: Catalog, body: Asked) -> Refusal | None:
    """Why this request cannot be one that waits; its fields are those of a member `body`."""
    if body.streams():
        return invalid_value("body.stream", "a job is polled, not streamed")
    return too_long_for(catalog, body, "body.")


def read_body(endpoint: str, value: dict[str, Any]) -> Asked | Refusal:
    """The member `body` of a request that waits, as its endpoint's schema reads it."""
    try:
        return ENDPOINTS[endpoint].model_validate(value)
    except ValidationError as fault:
        refusal = refusal_of_validation(fault)
        return replace(refusal, param=f"body.{refusal.param}")


def job_request(body: Asked, task_type: TaskType, *, details: dict[str, Any], **changes: Any) -> JobRequest:
    """The request that a checked body makes; `changes` are fields of JobRequest that its road decides."""
    given: dict[str, Any] = {
        "endpoint": body.endpoint,
        "model": body.model,
        "body": body.engine_body(),
        "task_type": task_type,
        "latency_budget_ms": body.latency_budget_ms,
        "max_output_tokens": body.output_tokens(),
        "prompt_tokens": body.prompt_tokens(),
        "details": {"metadata": body.metadata or {}} | details,
        "service_tier": body.tier(),
    }
    return JobRequest(**(given | changes))

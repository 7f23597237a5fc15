"""What may a client send to /v1/jobs? The body of any endpoint that makes one answer, and what is wanted of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from qosqueue.service.answers import CHAT
from qosqueue.service.bodies import Asked, AskedTier, BudgetMs, ChatBody, DeadlineMs, Metadata, Strict
from qosqueue.service.completion_body import CompletionBody
from qosqueue.service.embedding_body import EmbeddingBody
from qosqueue.service.endpoints import ENDPOINTS
from qosqueue.service.response_body import ResponseBody


def _body_by_endpoint(schema: dict[str, Any]) -> None:
    """What JSON Schema has to say beside the union: each endpoint has its own body, and none streams."""
    bodies = schema["properties"]["body"]["anyOf"]
    schema["anyOf"] = [
        {
            "properties": {
                "endpoint": {"const": endpoint},
                "body": {"allOf": [body, {"properties": {"stream": {"enum": [False, None]}}}]},
            },
            "required": [] if endpoint == CHAT else ["endpoint"],
        }
        for endpoint, body in zip(ENDPOINTS, bodies, strict=True)
    ]


class JobBody(Strict):
    """Body of `POST /v1/jobs`."""

    model_config = ConfigDict(json_schema_extra=_body_by_endpoint)

    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"] = CHAT
    body: ChatBody | CompletionBody | EmbeddingBody | ResponseBody
    task_type: Literal["async", "batch"] = "async"
    service_tier: AskedTier | None = None
    latency_budget_ms: BudgetMs | None = None
    deadline_ms: DeadlineMs | None = None
    metadata: Metadata | None = None
    webhook: str | None = Field(
        default=None, max_length=2048, description="the id or URL of a webhook endpoint, told when the job has ended"
    )

    @field_validator("body", mode="wrap")
    @classmethod
    def of_the_endpoint(cls, value: Any, _handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Asked:
        """The body is that of the endpoint, and its faults are told of that kind alone."""
        return ENDPOINTS[info.data.get("endpoint", CHAT)].model_validate(value)

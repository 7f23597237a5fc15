"""What may a client send to /v1/batches and /v1/webhook_endpoints?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qosqueue.service.bodies import Metadata, Strict


class ExpiresAfter(Strict):
    """When a file expires, in seconds from when it was made."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3_600, le=2_592_000)


class BatchBody(Strict):
    """Body of `POST /v1/batches`."""

    input_file_id: str = Field(max_length=64)
    endpoint: str = Field(max_length=64)
    completion_window: str = Field(max_length=8, description="whole hours, 1h to 24h: the deadline of the batch")
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class WebhookEndpointBody(Strict):
    """Body of `POST /v1/webhook_endpoints`."""

    name: str = Field(max_length=64)
    url: str = Field(max_length=2048)
    event_types: list[str] = Field(min_length=1, max_length=32)


class WebhookEndpointChanges(Strict):
    """Body of `POST /v1/webhook_endpoints/{id}`: what is not told stays."""

    name: str | None = Field(default=None, max_length=64)
    url: str | None = Field(default=None, max_length=2048)
    event_types: list[str] | None = Field(default=None, min_length=1, max_length=32)

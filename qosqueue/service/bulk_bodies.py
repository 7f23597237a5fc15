"""What may a client send to /v1/batches and /v1/webhook_endpoints?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qosqueue.service.batches import WINDOW
from qosqueue.service.bodies import Metadata, Strict
from qosqueue.service.endpoints import ENDPOINTS
from qosqueue.service.outbound import PUBLIC_URL
from qosqueue.service.webhook_events import EVENT_TYPES
from qosqueue.service.webhooks import ENDPOINT_NAME
from qosqueue.service.whole import WHOLE

# What the service checks, which words its refusals better: here for the document.
EndpointName = Annotated[str, Field(max_length=64, json_schema_extra={"enum": sorted(ENDPOINTS)})]
Window = Annotated[str, Field(max_length=8, json_schema_extra={"pattern": f"^{WINDOW.pattern}$"})]
HookName = Annotated[str, Field(max_length=64, json_schema_extra={"pattern": f"^{ENDPOINT_NAME.pattern.pattern}$"})]
HookUrl = Annotated[str, Field(max_length=2048, json_schema_extra={"pattern": PUBLIC_URL})]
EventType = Annotated[str, Field(json_schema_extra={"enum": list(EVENT_TYPES)})]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]


class ExpiresAfter(Strict):
    """When a file expires, in seconds from when it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000), WHOLE]


class BatchBody(Strict):
    """Body of `POST /v1/batches`."""

    input_file_id: str = Field(max_length=64)
    endpoint: EndpointName
    completion_window: Window = Field(description="whole hours, 1h to 24h: the deadline of the batch")
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class WebhookEndpointBody(Strict):
    """Body of `POST /v1/webhook_endpoints`."""

    name: HookName
    url: HookUrl
    event_types: EventTypes


class WebhookEndpointChanges(Strict):
    """Body of `POST /v1/webhook_endpoints/{id}`: what is not told stays."""

    name: HookName | None = None
    url: HookUrl | None = None
    event_types: EventTypes | None = None

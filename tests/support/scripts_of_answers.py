"""What happens to a request that a model answers with these words? Scripts for the memory services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qosqueue.service import answers
from qosqueue.service.online import Done, Started
from qosqueue.service.requests import JobRequest
from tests.support.memory_services import MODEL, Step, delta

Script = Callable[[JobRequest], list[Step]]


def said(*texts: str) -> Script:
    """A completion that says these, and is cut off by its limit."""
    head = {"id": "cmpl-1", "created": 1, "model": MODEL, "service_tier": "default"}
    result = answers.text_completion(head, "".join(texts), "length", answers.usage_of(3, 2))
    return lambda request: [Started("w1", 5), *map(delta, texts), Done("length", 3, 2, result, 5, 6)]


def response_result(request: JobRequest, text: str, finish_reason: str = "stop") -> dict[str, Any]:
    """What a worker makes of a response."""
    status = answers.status_of_end(finish_reason)
    head = {"id": answers.public_id("resp_", request.id), "created": 1, "model": MODEL, "service_tier": "default"}
    output = [answers.output_message(head["id"], text, status)]
    return answers.response(head, request.body["asked"], status, output=output, usage=answers.usage_of(7, 2))


def script(*texts: str, finish_reason: str = "stop") -> Script:
    """A response that says these."""

    def steps(request: JobRequest) -> list[Step]:
        result = response_result(request, "".join(texts), finish_reason)
        return [Started("w1", 5), *map(delta, texts), Done(finish_reason, 7, 2, result, 5, 6)]

    return steps

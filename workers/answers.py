"""What is the result of a request that has ended? The body that its endpoint answers with."""

from __future__ import annotations

import base64
import struct
from typing import Any

from qosqueue.policy.terms import ServiceTier
from qosqueue.service import answers
from qosqueue_workers.engines.base import Completion

# Enough digits to tell any two float32 apart; Python's own repr of the widened number has twice as many.
FLOAT_DIGITS = 9

PREFIX = {
    answers.CHAT: "chatcmpl-",
    answers.COMPLETIONS: "cmpl-",
    answers.EMBEDDINGS: "embd-",
    answers.RESPONSES: "resp_",
}


def engine_endpoint(endpoint: str) -> str:
    """The endpoint as engines know it: a response is a chat that is told in another way."""
    return answers.CHAT if endpoint == answers.RESPONSES else endpoint


def answer_body(request: dict[str, Any], body: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """The result of `request`, whose engine got `body` and ended with `completion`."""
    endpoint = request["endpoint"]
    head = {
        "id": answers.public_id(PREFIX.get(endpoint, PREFIX[answers.CHAT]), request["id"]),
        "created": request["created_ms"] // 1000,
        "model": request["model"],
        # A message of a version before service tiers has none.
        "service_tier": request.get("service_tier", ServiceTier.DEFAULT),
    }
    usage = answers.usage_of(completion.prompt_tokens, completion.completion_tokens)
    if endpoint == answers.EMBEDDINGS:
        told = [_encoded(vector, body.get("encoding_format")) for vector in completion.vectors]
        return answers.embedding_list(head, told, completion.prompt_tokens)
    if endpoint == answers.COMPLETIONS:
        return answers.text_completion(head, completion.text, completion.finish_reason, usage)
    if endpoint == answers.RESPONSES:
        status = answers.status_of_end(completion.finish_reason)
        output = [answers.output_message(head["id"], completion.text, status)]
        return answers.response(head, body["asked"], status, output=output, usage=usage)
    return answers.chat_completion(head, completion.text, completion.finish_reason, usage)


def _encoded(vector: bytes, encoding_format: str | None) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector).decode()
    floats = struct.unpack(f"<{len(vector) // 4}f", vector)
    return [float(f"{value:.{FLOAT_DIGITS}g}") for value in floats]

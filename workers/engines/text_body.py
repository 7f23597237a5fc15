"""What does a request for text ask of an engine? The checks and readings that every engine does alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qosqueue.service.answers import CHAT, COMPLETIONS, RESPONSES
from qosqueue_workers.engines.base import EngineRefused, EngineRequest


def check_text(request: EngineRequest) -> None:
    """Raise EngineRefused for what no engine here can do: another endpoint, other media than text, several answers."""
    body = request.body
    if request.endpoint not in (CHAT, COMPLETIONS):
        # A response is a chat when it comes here.
        raise wrong_endpoint(request.endpoint, CHAT, COMPLETIONS, RESPONSES)
    if body.get("n") not in (None, 1):
        raise EngineRefused("invalid_value", f"n: expected 1, got {body['n']!r}", "n")
    texts(request)
    output_limit(body)


def wrong_endpoint(endpoint: str, *served: str) -> EngineRefused:
    """The refusal of a request that this kind of model does not serve: the model was chosen wrongly."""
    return EngineRefused(
        "invalid_value",
        f"model: this one serves {_listed(served)}, not {endpoint}; GET /v1/models lists all",
        "model",
    )


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def texts(request: EngineRequest) -> list[str]:
    """The text of each message, in order; of a completion its prompt."""
    body = request.body
    if request.endpoint == COMPLETIONS:
        if not isinstance(body.get("prompt"), str) or not body["prompt"]:
            raise EngineRefused("invalid_value", "prompt: expected a text", "prompt")
        return [body["prompt"]]
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise EngineRefused("invalid_value", "messages: expected a list of at least one message", "messages")
    return [_text(message, place) for place, message in enumerate(messages)]


def _text(message: object, place: int) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if part)
    elif isinstance(content, str):
        return content
    elif isinstance(message, dict) and content is None and message.get("tool_calls"):
        return ""
    raise EngineRefused("invalid_value", f"messages[{place}].content: expected text", f"messages[{place}].content")


def output_limit(body: dict[str, Any]) -> int | None:
    """Most tokens that the answer may have; None if the request sets no limit."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if limit is not None:
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
                raise EngineRefused("invalid_value", f"{name}: expected a number of at least 1, got {limit!r}", name)
            return limit
    return None


def stop_strings(body: dict[str, Any]) -> list[str]:
    """Strings that end the answer and are left out of it."""
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or [])


def too_long(request: EngineRequest, prompt_tokens: int, context_tokens: int) -> EngineRefused:
    """The refusal of a prompt that does not fit the context."""
    return EngineRefused(
        "context_length_exceeded",
        f"the prompt has {prompt_tokens} tokens; the model's context holds {context_tokens} with the answer",
        "prompt" if request.endpoint == COMPLETIONS else "messages",
    )

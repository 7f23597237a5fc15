"""What does OpenAI's API answer with? The bodies of each endpoint, for the worker that makes them and for the web."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"

Body = dict[str, Any]


def public_id(prefix: str, job_id: str) -> str:
    """The id that a client sees of a request: the job's own digits under the endpoint's prefix."""
    return f"{prefix}{job_id.removeprefix('job_')}"


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's `usage`."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def chat_completion(head: Body, text: str, finish_reason: str, usage: dict[str, int]) -> Body:
    """A `chat.completion`; `head` has the id, the instant, the model and the service tier."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}


def text_completion(head: Body, text: str, finish_reason: str, usage: dict[str, int]) -> Body:
    """A `text_completion`."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    return {**head, "object": "text_completion", "choices": [choice], "usage": usage}


def embedding_list(head: Body, vectors: Sequence[str | list[float]], prompt_tokens: int) -> Body:
    """The list of embeddings, each as base64 of its floats or as a list of them."""
    data = [{"object": "embedding", "index": place, "embedding": each} for place, each in enumerate(vectors)]
    return {
        "object": "list",
        "data": data,
        "model": head["model"],
        "service_tier": head["service_tier"],
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


def response(
    head: Body,
    asked: Mapping[str, Any],
    status: str,
    *,
    output: Sequence[Body] = (),
    usage: dict[str, int] | None = None,
    error: Mapping[str, Any] | None = None,
) -> Body:
    """A `response` at any time of its life; `asked` is what its request said (ResponseBody.asked)."""
    return {
        "id": head["id"],
        "object": "response",
        "created_at": head["created"],
        "model": head["model"],
        "service_tier": head["service_tier"],
        "status": status,
        "error": None if error is None else {"code": error["code"], "message": error["message"]},
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": list(output),
        "usage": None if usage is None else _response_usage(usage),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "text": {"format": {"type": "text"}},
        "previous_response_id": None,
        **asked,
    }


def output_message(response_id: str, text: str, status: str) -> Body:
    """The one message that a response's `output` holds; `status` is in_progress, completed or incomplete."""
    return {
        "id": response_id.replace("resp_", "msg_", 1),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [output_text(text)],
    }


def output_text(text: str) -> Body:
    """The text of a response's message."""
    return {"type": "output_text", "text": text, "annotations": []}


def status_of_end(finish_reason: str) -> str:
    """A response's status once the model has ended: cut off by its limit, it is incomplete."""
    return "incomplete" if finish_reason == "length" else "completed"


def _response_usage(usage: dict[str, int]) -> Body:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }

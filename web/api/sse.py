"""How does a running call become server-sent events that the OpenAI client reads?

Tokens are `data: {chunk}`, the end is `data: [DONE]`, a failure is `data: {"error": {...}}`. Everything else (the place
in the queue, signs of life) is a comment line: a named event with JSON breaks the client.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Chunk, Done, Event, Failed, Queued
from qosqueue_web.api.errors import error_body, refusal_of_failure, refusal_of_outage

# gunicorn learns on the second write that the client is gone: two of these make the two seconds promised.
KEEP_ALIVE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkFrame:
    """What all chunks of one answer share; `created` in seconds since the epoch, `request_id` for the log alone."""

    id: str
    model: str
    created: int
    include_usage: bool
    request_id: str = ""

    def line(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        """One chunk as an event. With `include_usage` every chunk carries the key, as OpenAI's do."""
        chunk: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.include_usage:
            chunk["usage"] = usage
        return data_line(chunk)


def data_line(value: Any) -> str:
    """A JSON value as an event. Not ASCII is escaped, so that no token can break a line."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


def comment_line(text: str) -> str:
    """A line that clients ignore."""
    return f": {text}\n\n"


def stream_lines(events: Iterable[Event], frame: ChunkFrame) -> Iterator[str]:
    """The stream of one call. A wait that brings nothing new becomes a sign of life once a second.

    Never raises for a failure of the call: its status was sent long ago, so the failure is told inside the stream.
    """
    try:
        yield from _lines(events, frame)
    except (BrokerUnavailable, StoreUnavailable) as outage:
        log.warning("%s in the middle of an answer: %s (request %s)", type(outage).__name__, outage, frame.request_id)
        yield data_line(error_body(refusal_of_outage(outage)))
    except Exception:
        log.exception("the stream of %s broke (request %s)", frame.id, frame.request_id)
        broken = Refusal(500, "internal_error", "the server failed in the middle of the answer")
        yield data_line(error_body(broken))


def _lines(events: Iterable[Event], frame: ChunkFrame) -> Iterator[str]:
    role_sent = finish_sent = False
    told: int | None = None
    wrote = time.monotonic()
    for event in events:
        if isinstance(event, Chunk):
            for choice in event.choices:
                if not role_sent:
                    choice["delta"] = {"role": "assistant", **choice.get("delta", {})}
                    role_sent = True
                finish_sent = finish_sent or choice.get("finish_reason") is not None
            yield frame.line(event.choices)
        elif isinstance(event, Failed):
            yield data_line(error_body(refusal_of_failure(event.error)))
        elif isinstance(event, Done):
            yield from _ending(event, frame, finish_sent)
        elif isinstance(event, Queued) and event.position not in (None, told):
            told = event.position
            yield comment_line(f"queued position={told}")
        elif time.monotonic() - wrote >= KEEP_ALIVE_S:
            yield comment_line("keep-alive")
        else:
            continue
        wrote = time.monotonic()


def _ending(done: Done, frame: ChunkFrame, finish_sent: bool) -> Iterator[str]:
    if not finish_sent:
        yield frame.line([{"index": 0, "delta": {}, "finish_reason": done.finish_reason}])
    if frame.include_usage:
        yield frame.line([], usage_of(done.prompt_tokens, done.completion_tokens))
    yield "data: [DONE]\n\n"


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's `usage`."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }

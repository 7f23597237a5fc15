"""How does a running call become server-sent events that the OpenAI client reads?

Tokens are `data: {chunk}`, the end is `data: [DONE]`, a failure is `data: {"error": {...}}`. Everything else (the place
in the queue, signs of life) is a comment line: a named event with JSON breaks the client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Chunk, Detoured, Done, Event, Failed, Queued
from qosqueue_web.api.errors import encode, error_body, refusal_of_failure, refusal_of_outage

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
        told = f',"usage":{encode(usage)}' if self.include_usage else ""
        return f'{self._head},"choices":{encode(choices)}{told}}}\n\n'

    @cached_property
    def _head(self) -> str:
        """What every chunk begins with: encoded once, not for each token."""
        chunk = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return f"data: {encode(chunk)[:-1]}"


def data_line(value: Any) -> str:
    """A JSON value as an event."""
    return f"data: {encode(value)}\n\n"


def comment_line(text: str) -> str:
    """A line that clients ignore."""
    return f": {text}\n\n"


def stream_lines(batches: Iterable[list[Event]], frame: ChunkFrame) -> Iterator[str]:
    """The stream of one call; what is ready at once is one piece. A wait that brings nothing new becomes a sign of
    life once a second.

    Never raises for a failure of the call: its status was sent long ago, so the failure is told inside the stream.
    """
    told = _Told()
    try:
        for batch in batches:
            piece = "".join(line for event in batch for line in told.lines(event, frame))
            if piece:
                yield piece
    except (BrokerUnavailable, StoreUnavailable) as outage:
        log.warning("%s in the middle of an answer: %s (request %s)", type(outage).__name__, outage, frame.request_id)
        yield data_line(error_body(refusal_of_outage(outage)))
    except Exception:
        log.exception("the stream of %s broke (request %s)", frame.id, frame.request_id)
        broken = Refusal(500, "internal_error", "the server failed in the middle of the answer")
        yield data_line(error_body(broken))


class _Told:
    """What the client of one stream has been told so far."""

    def __init__(self) -> None:
        self._role = self._finish = False
        self._position: int | None = None
        self._wrote = time.monotonic()
        self._model: str | None = None

    def lines(self, event: Event, frame: ChunkFrame) -> Iterator[str]:
        """The lines that an event amounts to; none if it tells nothing new."""
        if self._model is not None:
            frame = replace(frame, model=self._model)
        if isinstance(event, Chunk):
            for choice in event.choices:
                if not self._role:
                    choice["delta"] = {"role": "assistant", **choice.get("delta", {})}
                    self._role = True
                self._finish = self._finish or choice.get("finish_reason") is not None
            yield frame.line(event.choices)
        elif isinstance(event, Failed):
            yield data_line(error_body(refusal_of_failure(event.error)))
        elif isinstance(event, Done):
            yield from _ending(event, frame, self._finish)
        elif isinstance(event, Detoured):
            self._model = event.model
            yield comment_line(f"detour {', '.join(event.detours)}")
        elif isinstance(event, Queued) and event.position not in (None, self._position):
            self._position = event.position
            yield comment_line(f"queued position={event.position}")
        elif time.monotonic() - self._wrote >= KEEP_ALIVE_S:
            yield comment_line("keep-alive")
        else:
            return
        self._wrote = time.monotonic()


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

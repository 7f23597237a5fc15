"""How does a running call become server-sent events that the OpenAI client reads?

Tokens are `data: {chunk}`, the end is `data: [DONE]`, a failure is `data: {"error": {...}}` (frames.py). Everything
else (the place in the queue, signs of life) is a comment line: a named event with JSON breaks the client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Chunk, Detoured, Done, Event, Failed, Queued
from qosqueue_web.api.errors import refusal_of_failure, refusal_of_outage
from qosqueue_web.api.frames import Frame

# gunicorn learns on the second write that the client is gone: two of these make the two seconds promised.
KEEP_ALIVE_S = 1.0

log = logging.getLogger(__name__)


def comment_line(text: str) -> str:
    """A line that clients ignore."""
    return f": {text}\n\n"


def stream_lines(batches: Iterable[list[Event]], frame: Frame, request_id: str) -> Iterator[str]:
    """The stream of one call; what is ready at once is one piece. A wait that brings nothing new becomes a sign of
    life once a second. `request_id` is for the log.

    Never raises for a failure of the call: its status was sent long ago, so the failure is told inside the stream.
    """
    told = _Told(frame)
    head = frame.begin()
    try:
        for batch in batches:
            piece = head + "".join(map(told.lines, batch))
            head = ""
            if piece:
                yield piece
    except (BrokerUnavailable, StoreUnavailable) as outage:
        log.warning("%s in the middle of an answer: %s (request %s)", type(outage).__name__, outage, request_id)
        yield frame.failure(refusal_of_outage(outage))
    except Exception:
        log.exception("the stream of %s broke (request %s)", frame.id, request_id)
        yield frame.failure(Refusal(500, "internal_error", "the server failed in the middle of the answer"))


class _Told:
    """What the client of one stream has been told so far."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._position: int | None = None
        self._wrote = time.monotonic()

    def lines(self, event: Event) -> str:
        """The lines that an event amounts to; none if it tells nothing new."""
        told = self._lines(event)
        if told:
            self._wrote = time.monotonic()
        return told

    def _lines(self, event: Event) -> str:
        if isinstance(event, Chunk):
            return self._frame.chunk(event)
        if isinstance(event, Failed):
            return self._frame.failure(refusal_of_failure(event.error))
        if isinstance(event, Done):
            return self._frame.end(event)
        if isinstance(event, Detoured):
            self._frame.detoured(event.model)
            return comment_line(f"detour {', '.join(event.detours)}")
        if isinstance(event, Queued) and event.position not in (None, self._position):
            self._position = event.position
            return comment_line(f"queued position={event.position}")
        return comment_line("keep-alive") if time.monotonic() - self._wrote >= KEEP_ALIVE_S else ""

"""What is sent to a client, whoever sends it: Flask, or the door in front of it?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from qosqueue.policy.refusal import Refusal
from qosqueue_web.api.errors import encode, error_body, error_headers


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `close` is called when it was sent and when the client left."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Iterable[bytes]
    close: Callable[[], None] = lambda: None
    # Whether all of it was said, once it was sent; a stream that failed has its status all the same.
    is_complete: Callable[[], bool] = lambda: True


def json_answer(status: int, value: Any) -> Answer:
    """The answer that is this value."""
    told = encode(value).encode()
    return Answer(status, [("Content-Type", "application/json"), ("Content-Length", str(len(told)))], [told])


def refused(refusal: Refusal, retry_count: int = 0) -> Answer:
    """The answer to a request that does not run; `retry_count` is how often its client has tried already."""
    answer = json_answer(refusal.status, error_body(refusal))
    return Answer(answer.status, [*answer.headers, *error_headers(refusal, retry_count)], answer.pieces)

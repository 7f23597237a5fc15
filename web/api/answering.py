"""How is a request answered while its client waits?

The HTTP status of a stream is settled by the first thing that happens to it within 250 ms of its start (or of its
dispatch, if that came in time): a refusal by the engine is then an ordinary 400. What waits longer gets its 200 and
comment lines meanwhile, and a later failure is told inside the stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import Response, g, request

from qosqueue.policy.profile import TTL_MS
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.bodies import Asked
from qosqueue.service.endpoints import job_request, too_long_for
from qosqueue.service.online import Chunk, Done, Event, Failed, OnlineCall, Queued, Started
from qosqueue.store.records import Tenant
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import encode, error_body, error_headers, rate_headers, refusal_of_failure
from qosqueue_web.api.frames import Frame
from qosqueue_web.api.headers import Stopwatch, detour_headers, latency_budget_ms, profile_headers, timing_headers
from qosqueue_web.api.hints import hints_of
from qosqueue_web.api.idempotent import made_id
from qosqueue_web.api.presence import client_gone
from qosqueue_web.api.sse import stream_lines

if TYPE_CHECKING:
    from qosqueue.wiring import Services

STATUS_WITHIN_S = 0.25
CLIENT_CLOSED_REQUEST = 499
# nginx would hold the tokens back until its buffer is full.
STREAM_HEADERS = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no")]

# How a stream of one body looks, given the call that it became.
MakeFrame = Callable[[OnlineCall], Frame]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whoever sends it. `close` is called when it was sent and when the client left."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Iterable[bytes]
    close: Callable[[], None] = lambda: None
    # Whether all of it was said, once it was sent; a stream that failed has its status all the same.
    is_complete: Callable[[], bool] = lambda: True


def respond(services: Services, body: Asked, frame: MakeFrame | None = None) -> Response:
    """Answer the Flask request at hand."""
    body = body.model_copy(update={"latency_budget_ms": latency_budget_ms(body.latency_budget_ms)})
    answer = answer_now(services, current_tenant(), body, request.environ, g.request_id, frame, **made_id())
    g.is_complete = answer.is_complete
    response = Response(answer.pieces, answer.status, answer.headers)
    response.call_on_close(answer.close)
    return response


def answer_now(
    services: Services,
    tenant: Tenant,
    body: Asked,
    environ: dict[str, Any],
    request_id: str,
    frame: MakeFrame | None = None,
    **identity: Any,
) -> Answer:
    """Run a checked body while its client waits; `frame` makes the stream of one that streams, `identity` may give its
    id.

    Raises BrokerUnavailable or StoreUnavailable: then it was not accepted.
    """
    refusal = too_long_for(services.catalog, body)
    if refusal is not None:
        return refused(refusal)
    watch = Stopwatch()
    hints = hints_of(environ)
    streams = frame if body.streams() else None
    asked = job_request(
        body,
        TaskType.ONLINE,
        details=hints.noted(),
        traceparent=hints.traceparent,
        # A client that gives up reading sooner than we would wants no answer after that; signs of life keep a
        # stream's reader.
        ttl_ms=None if streams else _sooner(TTL_MS[TaskType.ONLINE], hints.read_timeout_ms),
        stream=streams is not None,
        recorded_at_once=body.is_kept,
        **identity,
    )
    call = services.online.start(tenant, asked)
    if isinstance(call, Refusal):
        return refused(call, hints.retry_count)
    watch.submitted()
    try:
        answer = (
            _whole(call, watch, environ) if streams is None else _streamed(call, streams, watch, environ, request_id)
        )
    except BaseException:
        call.close()
        raise
    headers = [
        *answer.headers,
        *profile_headers(call.profile),
        *rate_headers(call.rates),
        *detour_headers(call.detours),
        *timing_headers(watch),
    ]
    return replace(answer, headers=headers, close=call.close)


def _sooner(usual_ms: int, hinted_ms: int | None) -> int | None:
    return hinted_ms if hinted_ms is not None and hinted_ms < usual_ms else None


def _whole(call: OnlineCall, watch: Stopwatch, environ: dict[str, Any]) -> Answer:
    for batch in _while_present(call.batches(), environ):
        for event in batch:
            watch.note(event)
        last = batch[-1]
        if isinstance(last, Failed):
            return refused(refusal_of_failure(last.error))
        if isinstance(last, Done):
            return _json(200, last.result)
    return Answer(CLIENT_CLOSED_REQUEST, [("Content-Length", "0")], [])


def _streamed(call: OnlineCall, frame: MakeFrame, watch: Stopwatch, environ: dict[str, Any], request_id: str) -> Answer:
    head: list[Event] = []
    decide_at = watch.elapsed_s() + STATUS_WITHIN_S
    began = False
    for batch in call.batches(STATUS_WITHIN_S):
        for event in batch:
            watch.note(event)
            began = began or isinstance(event, Chunk)
            if isinstance(event, Started):
                decide_at = watch.elapsed_s() + STATUS_WITHIN_S
        if isinstance(batch[-1], Failed) and not began:
            return refused(refusal_of_failure(batch[-1].error))
        head += batch
        if began or isinstance(head[-1], Done) or watch.elapsed_s() >= decide_at:
            break
    # What was answered whole has nothing more to tell.
    tail = iter(()) if isinstance(head[-1], Done | Failed) else _while_present(call.batches(), environ)
    look = frame(call)
    lines = stream_lines(itertools.chain([head], tail), look, request_id)
    return Answer(200, STREAM_HEADERS, (piece.encode() for piece in lines), is_complete=lambda: look.is_complete)


def refused(refusal: Refusal, retry_count: int = 0) -> Answer:
    """The answer to a request that does not run."""
    answer = _json(refusal.status, error_body(refusal))
    return Answer(answer.status, [*answer.headers, *error_headers(refusal, retry_count)], answer.pieces)


def _json(status: int, value: Any) -> Answer:
    told = encode(value).encode()
    return Answer(status, [("Content-Type", "application/json"), ("Content-Length", str(len(told)))], [told])


def _while_present(batches: Iterator[list[Event]], environ: dict[str, Any]) -> Iterator[list[Event]]:
    """The events until the client is gone, which is looked for whenever nothing happens."""
    for batch in batches:
        if isinstance(batch[-1], Queued) and client_gone(environ):
            return
        yield batch

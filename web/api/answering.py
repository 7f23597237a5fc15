"""How is a request answered while its client waits?

The HTTP status of a stream is settled by the first thing that happens to it within 250 ms of its start (or of its
dispatch, if that came in time): a refusal by the engine is then an ordinary 400. What waits longer gets its 200 and
comment lines meanwhile, and a later failure is told inside the stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Response, g, request

from qosqueue.policy.profile import TTL_MS
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.answers import RESPONSES
from qosqueue.service.bodies import Asked
from qosqueue.service.endpoints import job_request, too_long_for
from qosqueue.service.online import Chunk, Done, Event, Failed, OnlineCall, Queued, Started
from qosqueue.service.requests import JobRequest
from qosqueue.service.troubles import deferred
from qosqueue.store.records import Tenant
from qosqueue_web.api.answers import job_answer
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import rate_headers, refusal_of_failure
from qosqueue_web.api.frames import Frame
from qosqueue_web.api.headers import (
    RESPOND_ASYNC,
    Stopwatch,
    accepted_headers,
    detour_headers,
    latency_budget_ms,
    prefers_async,
    profile_headers,
    timing_headers,
)
from qosqueue_web.api.hints import hints_of
from qosqueue_web.api.idempotent import made_id
from qosqueue_web.api.presence import client_gone
from qosqueue_web.api.sent import Answer, json_answer, refused
from qosqueue_web.api.sse import stream_lines

if TYPE_CHECKING:
    from qosqueue.wiring import Services

STATUS_WITHIN_S = 0.25
CLIENT_CLOSED_REQUEST = 499
# nginx would hold the tokens back until its buffer is full.
STREAM_HEADERS = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no")]

# How a stream of one body looks, given the call that it became.
MakeFrame = Callable[[OnlineCall], Frame]


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
        # A response has its own way to be answered later.
        may_defer=body.endpoint != RESPONSES and prefers_async(environ),
        **identity,
    )
    call = services.online.start(tenant, asked)
    if isinstance(call, Refusal):
        return _taken_later(services, tenant, asked, call, has_run=False) or refused(call, hints.retry_count)
    watch.submitted()
    try:
        answer = (
            _whole(call, watch, environ) if streams is None else _streamed(call, streams, watch, environ, request_id)
        )
        if isinstance(answer, Refusal):
            later = _taken_later(services, tenant, asked, answer, has_run=True)
            if later is not None:
                call.close()
                return later
            answer = refused(answer)
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


def _taken_later(
    services: Services, tenant: Tenant, asked: JobRequest, refusal: Refusal, *, has_run: bool
) -> Answer | None:
    """The job in place of a refused request, if its tenant's policy and its client both agree to that."""
    if not (refusal.as_job and asked.may_defer):
        return None
    job = services.jobs.submit(tenant, deferred(asked, refusal, has_run=has_run))
    if isinstance(job, Refusal):
        return refused(job)
    answer = json_answer(202, job_answer(job).model_dump())
    return replace(answer, headers=[*answer.headers, *accepted_headers(job), ("Preference-Applied", RESPOND_ASYNC)])


def _whole(call: OnlineCall, watch: Stopwatch, environ: dict[str, Any]) -> Answer | Refusal:
    for batch in _while_present(call.batches(), environ):
        for event in batch:
            watch.note(event)
        last = batch[-1]
        if isinstance(last, Failed):
            return _refusal(last)
        if isinstance(last, Done):
            return json_answer(200, last.result)
    return Answer(CLIENT_CLOSED_REQUEST, [("Content-Length", "0")], [])


def _streamed(
    call: OnlineCall, frame: MakeFrame, watch: Stopwatch, environ: dict[str, Any], request_id: str
) -> Answer | Refusal:
    head: list[Event] = []
    decide_at = watch.elapsed_s() + STATUS_WITHIN_S
    began = False
    for batch in call.batches(STATUS_WITHIN_S):
        for event in batch:
            watch.note(event)
            began = began or isinstance(event, Chunk)
            if isinstance(event, Started):
                decide_at = watch.elapsed_s() + STATUS_WITHIN_S
        last = batch[-1]
        if isinstance(last, Failed) and not began:
            return _refusal(last)
        head += batch
        if began or isinstance(head[-1], Done) or watch.elapsed_s() >= decide_at:
            break
    call.stays_a_stream()
    # What was answered whole has nothing more to tell.
    tail = iter(()) if isinstance(head[-1], Done | Failed) else _while_present(call.batches(), environ)
    look = frame(call)
    lines = stream_lines(itertools.chain([head], tail), look, request_id)
    return Answer(200, STREAM_HEADERS, (piece.encode() for piece in lines), is_complete=lambda: look.is_complete)


def _refusal(failed: Failed) -> Refusal:
    return replace(refusal_of_failure(failed.error), as_job=failed.as_job)


def _while_present(batches: Iterator[list[Event]], environ: dict[str, Any]) -> Iterator[list[Event]]:
    """The events until the client is gone, which is looked for whenever nothing happens."""
    for batch in batches:
        if isinstance(batch[-1], Queued) and client_gone(environ):
            return
        yield batch

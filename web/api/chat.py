"""How is a chat answered while its client waits?

The HTTP status of a stream is settled by the first thing that happens to it within 250 ms of its start (or of its
dispatch, if that came in time): a refusal by the engine is then an ordinary 400. What waits longer gets its 200 and
comment lines meanwhile, and a later failure is told inside the stream.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import Response, g, request
from flask_openapi.blueprint import APIBlueprint

from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.asked_model import find_model
from qosqueue.service.online import Chunk, Done, Event, Failed, OnlineCall, Queued, Started
from qosqueue.service.requests import JobRequest
from qosqueue.store.records import Tenant
from qosqueue_web.api.answers import ChatCompletion
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import encode, error_body, error_headers, rate_headers, refusal_of_failure
from qosqueue_web.api.headers import Stopwatch, detour_headers, latency_budget_ms, profile_headers, timing_headers
from qosqueue_web.api.presence import client_gone
from qosqueue_web.api.schemas import CHAT_ENDPOINT, ChatBody
from qosqueue_web.api.sse import ChunkFrame, stream_lines

if TYPE_CHECKING:
    from qosqueue.service.catalog import Catalog
    from qosqueue.wiring import Services

STATUS_WITHIN_S = 0.25
CLIENT_CLOSED_REQUEST = 499
# nginx would hold the tokens back until its buffer is full.
STREAM_HEADERS = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no")]


def too_long_for(catalog: Catalog, body: ChatBody, param: str = "") -> Refusal | None:
    """Why this chat can be refused at the door: an unknown model, or a prompt that fits in no way. Else None."""
    model = find_model(catalog, body.model)
    if isinstance(model, Refusal):
        return replace(model, param=f"{param}{model.param}")
    if body.cannot_fit(model.context_tokens):
        message = f"the prompt is longer than the model's context of {model.context_tokens} tokens"
        return Refusal(400, "context_length_exceeded", message, f"{param}messages")
    return None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whoever sends it. `close` is called when it was sent and when the client left."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Iterable[bytes]
    close: Callable[[], None] = lambda: None


def add_chat(api: APIBlueprint, services: Services) -> None:
    """Add the route /v1/chat/completions."""

    @api.post(CHAT_ENDPOINT, operation_id="createChatCompletion", responses={200: ChatCompletion})
    def create_chat_completion(body: ChatBody) -> Response:
        """Answer a chat, whole or (`stream`) token by token."""
        budget_ms = latency_budget_ms(body.latency_budget_ms)
        answer = answer_chat(services, current_tenant(), body, budget_ms, request.environ, g.request_id)
        response = Response(answer.pieces, answer.status, answer.headers)
        response.call_on_close(answer.close)
        return response


def answer_chat(
    services: Services, tenant: Tenant, body: ChatBody, budget_ms: int | None, environ: dict[str, Any], request_id: str
) -> Answer:
    """Run a checked chat. Raises BrokerUnavailable or StoreUnavailable: then it was not accepted."""
    refusal = too_long_for(services.catalog, body)
    if refusal is not None:
        return refused(refusal)
    watch = Stopwatch()
    call = services.online.start(
        tenant,
        JobRequest(
            endpoint=CHAT_ENDPOINT,
            model=body.model,
            body=body.engine_body(),
            task_type=TaskType.ONLINE,
            latency_budget_ms=budget_ms,
            ttl_ms=None,
            max_output_tokens=body.output_tokens(),
            prompt_tokens=body.prompt_tokens(),
            details={"metadata": body.metadata or {}},
            stream=bool(body.stream),
        ),
    )
    if isinstance(call, Refusal):
        return refused(call)
    watch.submitted()
    try:
        answer = _streamed(call, body, watch, environ, request_id) if body.stream else _whole(call, watch, environ)
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
    return Answer(answer.status, headers, answer.pieces, call.close)


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


def _streamed(call: OnlineCall, body: ChatBody, watch: Stopwatch, environ: dict[str, Any], request_id: str) -> Answer:
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
    frame = ChunkFrame(
        id=f"chatcmpl-{call.id.removeprefix('job_')}",
        model=call.model,
        created=int(time.time()),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        request_id=request_id,
    )
    # What was answered whole has nothing more to tell.
    tail = iter(()) if isinstance(head[-1], Done | Failed) else _while_present(call.batches(), environ)
    lines = stream_lines(itertools.chain([head], tail), frame)
    return Answer(200, STREAM_HEADERS, (piece.encode() for piece in lines))


def refused(refusal: Refusal) -> Answer:
    """The answer to a chat that does not run."""
    answer = _json(refusal.status, error_body(refusal))
    return Answer(answer.status, [*answer.headers, *error_headers(refusal)], answer.pieces)


def _json(status: int, value: Any) -> Answer:
    told = encode(value).encode()
    return Answer(status, [("Content-Type", "application/json"), ("Content-Length", str(len(told)))], [told])


def _while_present(batches: Iterator[list[Event]], environ: dict[str, Any]) -> Iterator[list[Event]]:
    """The events until the client is gone, which is looked for whenever nothing happens."""
    for batch in batches:
        if isinstance(batch[-1], Queued) and client_gone(environ):
            return
        yield batch

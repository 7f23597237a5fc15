"""How is a chat answered while its client waits?

The HTTP status of a stream is settled by the first thing that happens to it within 250 ms of its start (or of its
dispatch, if that came in time): a refusal by the engine is then an ordinary 400. What waits longer gets its 200 and
comment lines meanwhile, and a later failure is told inside the stream.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flask import Response, g, jsonify, request
from flask_openapi.blueprint import APIBlueprint

from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.asked_model import find_model
from qosqueue.service.online import Chunk, Done, Event, Failed, OnlineCall, Queued, Started
from qosqueue.service.requests import JobRequest
from qosqueue_web.api.answers import ChatCompletion
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import error_response, refusal_of_failure
from qosqueue_web.api.headers import Stopwatch, add_profile, add_timing, latency_budget_ms
from qosqueue_web.api.presence import client_gone
from qosqueue_web.api.schemas import CHAT_ENDPOINT, ChatBody
from qosqueue_web.api.sse import ChunkFrame, stream_lines

if TYPE_CHECKING:
    from qosqueue.service.catalog import Catalog
    from qosqueue.wiring import Services

STATUS_WITHIN_S = 0.25
CLIENT_CLOSED_REQUEST = 499


def too_long_for(catalog: Catalog, body: ChatBody, param: str = "") -> Refusal | None:
    """Why this chat can be refused at the door: an unknown model, or a prompt that fits in no way. Else None."""
    model = find_model(catalog, body.model)
    if isinstance(model, Refusal):
        return model
    if body.cannot_fit(model.context_tokens):
        message = f"the prompt is longer than the model's context of {model.context_tokens} tokens"
        return Refusal(400, "context_length_exceeded", message, f"{param}messages")
    return None


def add_chat(api: APIBlueprint, services: Services) -> None:
    """Add the route /v1/chat/completions."""

    @api.post(CHAT_ENDPOINT, operation_id="createChatCompletion", responses={200: ChatCompletion})
    def create_chat_completion(body: ChatBody) -> Response:
        """Answer a chat, whole or (`stream`) token by token."""
        budget_ms = latency_budget_ms(body.latency_budget_ms)
        refusal = too_long_for(services.catalog, body)
        if refusal is not None:
            return error_response(refusal)
        watch = Stopwatch()
        call = services.online.start(
            current_tenant(),
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
            return error_response(call)
        try:
            answer = _streamed if body.stream else _whole
            response = answer(call, body, watch)
        except BaseException:
            call.close()
            raise
        # The server closes the response when it was sent and when the client left, also before its first byte.
        response.call_on_close(call.close)
        add_profile(response, call.profile)
        add_timing(response, watch)
        return response


def _whole(call: OnlineCall, body: ChatBody, watch: Stopwatch) -> Response:
    for event in _while_present(call.events(), request.environ):
        watch.note(event)
        if isinstance(event, Failed):
            return error_response(refusal_of_failure(event.error))
        if isinstance(event, Done):
            return jsonify(event.result)
    return Response(status=CLIENT_CLOSED_REQUEST)


def _streamed(call: OnlineCall, body: ChatBody, watch: Stopwatch) -> Response:
    head: list[Event] = []
    decide_at = watch.elapsed_s() + STATUS_WITHIN_S
    for event in call.events(STATUS_WITHIN_S):
        watch.note(event)
        if isinstance(event, Failed):
            return error_response(refusal_of_failure(event.error))
        head.append(event)
        if isinstance(event, Started):
            decide_at = watch.elapsed_s() + STATUS_WITHIN_S
        if isinstance(event, Chunk | Done) or watch.elapsed_s() >= decide_at:
            break
    frame = ChunkFrame(
        id=f"chatcmpl-{call.id.removeprefix('job_')}",
        model=body.model,
        created=int(time.time()),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        request_id=g.request_id,
    )
    # What was answered whole has nothing more to tell.
    tail = iter(()) if isinstance(head[-1], Done) else _while_present(call.events(), request.environ)
    response = Response(stream_lines(itertools.chain(head, tail), frame), mimetype="text/event-stream")
    # nginx would hold the tokens back until its buffer is full.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _while_present(events: Iterator[Event], environ: dict[str, Any]) -> Iterator[Event]:
    """The events until the client is gone, which is looked for whenever nothing happens."""
    for event in events:
        if isinstance(event, Queued) and client_gone(environ):
            return
        yield event

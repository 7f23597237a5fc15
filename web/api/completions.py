"""Which routes answer with text while the client waits: chats and plain completions?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Response
from flask_openapi.blueprint import APIBlueprint

from qosqueue.service.answers import public_id
from qosqueue.service.bodies import ChatBody
from qosqueue.service.completion_body import CompletionBody
from qosqueue.service.online import OnlineCall
from qosqueue_web.api.answering import MakeFrame, respond
from qosqueue_web.api.answers import ChatCompletion, JobAnswer, TextCompletion
from qosqueue_web.api.frames import ChatFrame, CompletionFrame
from qosqueue_web.api.queries import PreferHeader

if TYPE_CHECKING:
    from qosqueue.wiring import Services


def add_completions(api: APIBlueprint, services: Services) -> None:
    """Add /v1/chat/completions and /v1/completions."""

    @api.post(ChatBody.endpoint, operation_id="createChatCompletion", responses={200: ChatCompletion, 202: JobAnswer})
    def create_chat_completion(header: PreferHeader, body: ChatBody) -> Response:
        """Answer a chat, whole or (`stream`) token by token."""
        return respond(services, body, chat_frame(body))

    @api.post(CompletionBody.endpoint, operation_id="createCompletion", responses={200: TextCompletion, 202: JobAnswer})
    def create_completion(header: PreferHeader, body: CompletionBody) -> Response:
        """Continue a text, whole or (`stream`) token by token."""
        return respond(services, body, _completion_frame(body))


def chat_frame(body: ChatBody) -> MakeFrame:
    """How the stream of this chat looks."""

    def make(call: OnlineCall) -> ChatFrame:
        wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        return ChatFrame(
            public_id("chatcmpl-", call.id), call.model, int(time.time()), call.profile.service_tier, wants_usage
        )

    return make


def _completion_frame(body: CompletionBody) -> MakeFrame:
    def make(call: OnlineCall) -> CompletionFrame:
        wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        return CompletionFrame(
            public_id("cmpl-", call.id), call.model, int(time.time()), call.profile.service_tier, wants_usage
        )

    return make

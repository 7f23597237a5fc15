"""Does /v1/chat/completions keep OpenAI's contract, whole and streamed?"""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.online import Failed, Queued, Started
from tests.support.memory_services import MODEL, MemoryServices, answer_of, delta, done
from tests.support.openai_error import error_of

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
TOO_LONG = Failed(
    {"status": 400, "code": "context_length_exceeded", "message": "too long", "param": "messages", "type": None}
)


def data_of(text: str) -> list[Any]:
    """The JSON of every data line; the last must be [DONE]."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_whole_answer(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    response = client.post(PATH, json=CHAT, headers=auth)
    assert response.status_code == 200
    assert response.get_json()["choices"][0]["message"]["content"] == "Hello there"
    assert re.fullmatch(r"submit;dur=[\d.]+, queue;dur=12\.0, ttft;dur=[\d.]+", response.headers["Server-Timing"])
    assert response.headers["x-qosqueue-lane"] == "standard.light"
    assert response.headers["x-qosqueue-priority"] == "4"
    (request,) = services.online.requests
    assert request.task_type is TaskType.ONLINE
    assert request.max_output_tokens == 256
    assert request.prompt_tokens == 1 + 4
    assert request.body == {"model": MODEL, "messages": CHAT["messages"], "max_tokens": 256}


def test_the_first_token_of_a_whole_answer_is_the_workers(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    """Nothing comes before its end: when it began, only the worker knows."""
    services.online.script = lambda request: [Started("w1", 12), done("Hello")]
    response = client.post(PATH, json=CHAT, headers=auth)
    assert response.headers["Server-Timing"].endswith(", queue;dur=12.0, ttft;dur=13.0")


def test_engine_gets_plain_text_and_the_smaller_limit(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    parts = [{"type": "text", "text": "é"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be short"}, {"role": "user", "content": parts}]
    sent = {"max_tokens": 9, "max_completion_tokens": 5, "temperature": 0, "stop": "x", "user": "u", "n": 1}
    assert client.post(PATH, json={"model": MODEL, "messages": messages, **sent}, headers=auth).status_code == 200
    (request,) = services.online.requests
    assert request.body == {
        "model": MODEL,
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "éb"}],
        "max_tokens": 5,
        "temperature": 0.0,
        "stop": "x",
    }
    assert request.prompt_tokens == 3 + 8  # 11 bytes in two messages


@pytest.mark.parametrize(("in_body", "in_header", "expected"), [(70, "80", 70), (None, "80", 80), (None, None, None)])
def test_latency_budget_from_body_or_header(
    client: FlaskClient,
    services: MemoryServices,
    auth: dict[str, str],
    in_body: int | None,
    in_header: str | None,
    expected: int | None,
) -> None:
    headers = auth if in_header is None else {**auth, "X-Latency-Budget-Ms": in_header}
    assert client.post(PATH, json={**CHAT, "latency_budget_ms": in_body}, headers=headers).status_code == 200
    assert services.online.requests[0].latency_budget_ms == expected


def test_stream(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    response = client.post(PATH, json={**CHAT, "stream": True}, headers=auth)
    assert response.status_code == 200
    assert response.mimetype == "text/event-stream"
    chunks = data_of(response.text)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-{services.online.calls[0].id.removeprefix('job_')}"}
    assert "usage" not in chunks[0]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "Hello"}
    assert chunks[1]["choices"][0]["delta"] == {"content": " there"}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]


def test_stream_with_usage(client: FlaskClient, auth: dict[str, str]) -> None:
    sent = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    chunks = data_of(client.post(PATH, json=sent, headers=auth).text)
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def test_queue_position_and_signs_of_life_are_comments(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qosqueue_web.api.sse.KEEP_ALIVE_S", 0)
    gate = threading.Event()
    services.online.script = lambda request: [Queued(3), gate, *answer_of("Hi")]
    response = client.post(PATH, json={**CHAT, "stream": True}, headers=auth, buffered=False)
    pieces = iter(response.response)
    # What happened before the status was settled comes in one piece.
    assert next(pieces).startswith(b": queued position=3\n\n: keep-alive\n\n")
    assert next(pieces) == b": keep-alive\n\n"
    gate.set()
    assert data_of(b"".join(pieces).decode())[-1]["choices"][0]["finish_reason"] == "stop"
    response.close()


@pytest.mark.parametrize("stream", [False, True])
def test_refusal_by_the_engine_is_the_true_status(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], stream: bool
) -> None:
    services.online.script = lambda request: [Queued(1), Started("w", 1), TOO_LONG]
    response = client.post(PATH, json={**CHAT, "stream": stream}, headers=auth)
    error = error_of(response, 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    response.close()
    assert services.online.calls[0].closed.is_set()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (TOO_LONG, "context_length_exceeded"),
        (BrokerUnavailable("gone"), "broker_unavailable"),
        (KeyError("k"), "internal_error"),
    ],
)
def test_failure_mid_stream_is_told_inside_it(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], fault: Any, code: str
) -> None:
    services.online.script = lambda request: [delta("Hel"), fault]
    response = client.post(PATH, json={**CHAT, "stream": True}, headers=auth)
    assert response.status_code == 200
    last = [line for line in response.text.split("\n\n") if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == code
    response.close()
    assert services.online.calls[0].closed.is_set()


@pytest.mark.parametrize("after", [0, 1])
def test_client_that_leaves_ends_the_call(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], after: int
) -> None:
    """Also when it leaves before the first line was read: a generator that never ran has no `finally`."""
    services.online.script = lambda request: [Queued(1), threading.Event()]
    response = client.post(PATH, json={**CHAT, "stream": True}, headers=auth, buffered=False)
    for _, _line in zip(range(after), response.response, strict=False):
        assert not services.online.calls[0].closed.is_set()
    response.close()
    assert services.online.calls[0].closed.is_set()


@pytest.mark.parametrize(("status", "code"), [(504, "deadline_exceeded"), (503, "purged")])
def test_what_waited_too_long_or_was_purged_is_not_to_be_retried(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], status: int, code: str
) -> None:
    final = Failed({"status": status, "code": code, "message": "it is over", "param": None})
    services.online.script = lambda request: [Queued(9), final]
    response = client.post(PATH, json=CHAT, headers=auth)
    assert error_of(response, status)["code"] == code
    assert response.headers["x-should-retry"] == "false"
    assert "Retry-After" not in response.headers


def test_refusal_at_admission(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.refuse_with = Refusal(429, "rate_limit_exceeded", "too many", retry_after_s=7)
    response = client.post(PATH, json=CHAT, headers=auth)
    assert error_of(response, 429)["code"] == "rate_limit_exceeded"
    assert response.headers["Retry-After"] == "7"


def test_broker_away(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.raise_this = BrokerUnavailable("no")
    response = client.post(PATH, json=CHAT, headers=auth)
    assert error_of(response, 503)["code"] == "broker_unavailable"
    assert 1 <= int(response.headers["Retry-After"]) <= 5


def test_unknown_model(client: FlaskClient, auth: dict[str, str]) -> None:
    error = error_of(client.post(PATH, json={**CHAT, "model": "no-such"}, headers=auth), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_prompt_that_cannot_fit(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    long = [{"role": "user", "content": "x" * (512 * 16 + 1)}]
    error = error_of(client.post(PATH, json={"model": MODEL, "messages": long}, headers=auth), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert services.online.requests == []


def test_done_may_come_without_chunks(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.script = lambda request: [Started("w", 1), done("")]
    assert client.post(PATH, json=CHAT, headers=auth).status_code == 200

"""Is every wrong body or query answered with an OpenAI error that names the field, and never with a 5xx?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.memory_services import MODEL, MemoryServices, key_for, memory_services
from tests.support.openai_error import error_of

CHAT_PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}

WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"latency_budget_ms": "100"}, "latency_budget_ms"),
    ({"latency_budget_ms": -1}, "latency_budget_ms"),
    ({"latency_budget_ms": 0}, "latency_budget_ms"),
    ({"latency_budget_ms": 86_400_001}, "latency_budget_ms"),
    ({"latency_budget_ms": 1.5}, "latency_budget_ms"),
    ({"latency_budget_ms": True}, "latency_budget_ms"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**400}, "max_tokens"),
    ({"max_completion_tokens": "5"}, "max_completion_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": 10**400}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"n": 2}, "n"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": 5}, "stop"),
    ({"seed": 2**63}, "seed"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"what": 1}}, "stream_options.what"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "text": ""}]}]}, "messages[0].content[0].type"),
    ({"model": ""}, "model"),
    ({"model": None}, "model"),
    ({"priority": 0}, "priority"),
    ({"tenant_id": "ten_1"}, "tenant_id"),
    ({"tools": []}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"response_format": {"type": "json_object"}}, "response_format.type"),
    ({"logprobs": True}, "logprobs"),
    ({"store": True}, "store"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"echo": False}, "echo"),
]
NO_CHANGE: dict[str, list[dict[str, Any]]] = {
    CHAT_PATH: [
        {"response_format": {"type": "text"}},
        {"logprobs": False},
        {"store": False},
        {"tools": None, "tool_choice": None},
        {"parallel_tool_calls": True},
        {"logit_bias": {}},
        {"logit_bias": None, "user": "u", "n": 1},
    ],
    "/v1/completions": [{"echo": False, "best_of": 1, "logit_bias": {}, "logprobs": None, "suffix": None, "user": "u"}],
}


@pytest.mark.parametrize(
    ("path", "harmless"), [(path, each) for path, all_of in NO_CHANGE.items() for each in all_of], ids=str
)
def test_what_changes_nothing_is_taken_and_goes_no_further(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], path: str, harmless: dict[str, Any]
) -> None:
    body = CHAT if path == CHAT_PATH else {"model": MODEL, "prompt": "Hi"}
    for sent in (body, {**body, **harmless}):
        assert client.post(path, json=sent, headers=auth).status_code == 200
    plain, with_it = services.online.requests
    assert with_it.body == plain.body


@pytest.mark.parametrize(
    "wrong", [{"echo": True}, {"best_of": 2}, {"logprobs": 0}, {"logprobs": False}, {"suffix": "x"}, {"tools": None}]
)
def test_a_completion_refuses_what_would_change_it(
    client: FlaskClient, auth: dict[str, str], wrong: dict[str, Any]
) -> None:
    body = {"model": MODEL, "prompt": "Hi", **wrong}
    assert error_of(client.post("/v1/completions", json=body, headers=auth), 400)["param"] in wrong


@pytest.mark.parametrize(("wrong", "param"), WRONG_FIELDS, ids=lambda value: json.dumps(value)[:40])
def test_wrong_field_is_named(client: FlaskClient, auth: dict[str, str], wrong: dict[str, Any], param: str) -> None:
    body = {**CHAT, **wrong}
    assert error_of(client.post(CHAT_PATH, json=body, headers=auth), 400)["param"] == param
    assert error_of(client.post("/v1/jobs", json={"body": body}, headers=auth), 400)["param"] == f"body.{param}"


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (CHAT_PATH, {"n": 2}, "n: expected at most 1"),
        (CHAT_PATH, {"n": "2"}, "n: expected a whole number, got a text"),
        (CHAT_PATH, {"temperature": None, "top_p": True}, "top_p: expected a number, got a boolean"),
        (CHAT_PATH, {"stream": "yes"}, "stream: expected true or false, got a text"),
        (CHAT_PATH, {"messages": []}, "messages: expected a length of at least 1, got 0"),
        (CHAT_PATH, {"messages": {}}, "messages: expected a list, got an object"),
        (CHAT_PATH, {"messages": [3]}, "messages[0]: expected an object, got a number"),
        (CHAT_PATH, {"model": None}, "model: expected a text, got null"),
        (CHAT_PATH, {"user": "x" * 300}, "user: expected a length of at most 256, got 300"),
        (CHAT_PATH, {"metadata": {str(i): "" for i in range(17)}}, "metadata: expected a length of at most 16, got 17"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "prompt: expected a length of at most 1, got 2"),
        ("/v1/completions", {}, "prompt: expected a value, got nothing"),
        ("/v1/responses", {"input": "x", "store": False}, "store: expected true"),
        ("/v1/embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format: expected 'float' or 'base64'"),
    ],
)
def test_what_was_expected_is_told_in_one_way(
    client: FlaskClient, auth: dict[str, str], path: str, body: dict[str, Any], told: str
) -> None:
    sound = CHAT if path == CHAT_PATH else {"model": MODEL}
    assert error_of(client.post(path, json={**sound, **body}, headers=auth), 400)["message"] == told


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"task_type": "online"}, "task_type"),
        ({"endpoint": "/v1/audio/speech"}, "endpoint"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"latency_budget_ms": "1"}, "latency_budget_ms"),
        ({"metadata": []}, "metadata"),
        ({"cost": 1}, "cost"),
        ({"body": {**CHAT, "stream": True}}, "body.stream"),
        ({"body": None}, "body"),
    ],
)
def test_wrong_job_field_is_named(client: FlaskClient, auth: dict[str, str], wrong: dict[str, Any], param: str) -> None:
    assert error_of(client.post("/v1/jobs", json={"body": CHAT, **wrong}, headers=auth), 400)["param"] == param


@pytest.mark.parametrize("field", ["latency_budget_ms", "deadline_ms"])
@pytest.mark.parametrize("wrong", [-5, "fast", "100", 1.5, 10**12])
def test_a_wrong_time_is_told_unit_and_range(client: FlaskClient, auth: dict[str, str], field: str, wrong: Any) -> None:
    error = error_of(client.post("/v1/jobs", json={"body": CHAT, field: wrong}, headers=auth), 400)
    assert error["message"].startswith(f"{field}: expected a whole number of milliseconds from 1 to ")


def test_an_unknown_model_of_a_job_is_named_where_it_stands(client: FlaskClient, auth: dict[str, str]) -> None:
    answer = client.post("/v1/jobs", json={"body": {**CHAT, "model": "nope"}}, headers=auth)
    assert error_of(answer, 404)["param"] == "body.model"


@pytest.mark.parametrize("value", ["-1", "0", "1.5", "abc", "86400001", "9" * 500, ""])
def test_wrong_latency_header_is_named(client: FlaskClient, auth: dict[str, str], value: str) -> None:
    headers = {**auth, "X-Latency-Budget-Ms": value}
    assert error_of(client.post(CHAT_PATH, json=CHAT, headers=headers), 400)["param"] == "latency_budget_ms"


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=nan", "wait=1e999", "wait=soon", "wiat=1"])
def test_wrong_wait_is_named(client: FlaskClient, auth: dict[str, str], query: str) -> None:
    error = error_of(client.get(f"/v1/jobs/job_{'0' * 24}?{query}", headers=auth), 400)
    assert error["param"] == query.split("=")[0]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "before=1", "before=job_x'--"])
def test_wrong_page_is_named(client: FlaskClient, auth: dict[str, str], query: str) -> None:
    error = error_of(client.get(f"/v1/jobs?{query}", headers=auth), 400)
    assert error["param"] == query.split("=")[0]


BAD_TEXTS = {
    "empty": b"",
    "not json": b"{",
    "not an object": b"[]",
    "json in a string": json.dumps(json.dumps(CHAT)).encode(),
    "nan": b'{"model": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "lone surrogate": b'{"model": "\\ud800"}',
    "not utf-8": b'{"model": "\xff"}',
    "byte-order mark": b"\xef\xbb\xbf{}",
    "huge integer": b'{"seed": ' + b"9" * 100_000 + b"}",
    "huge exponent": b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 10_000,
    "nul": b'{"model": "\\u0000"}',
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/jobs"])
def test_bad_text_is_refused(client: FlaskClient, auth: dict[str, str], path: str, text: bytes) -> None:
    error_of(client.post(path, data=text, content_type="application/json", headers=auth), 400)


def test_wrong_content_type(client: FlaskClient, auth: dict[str, str]) -> None:
    sent = json.dumps(CHAT)
    error_of(client.post(CHAT_PATH, data=sent, content_type="text/plain", headers=auth), 415)
    error_of(client.post(CHAT_PATH, data=sent, headers=auth), 415)


class Endless:
    """A request body that has no end, and counts what was taken from it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "somebody wants the whole of an endless body"
        self.taken += size
        return b" " * size

    readline = read


@pytest.mark.parametrize("told", [True, False], ids=["content-length", "chunked"])
def test_large_body_is_not_buffered(client: FlaskClient, auth: dict[str, str], told: bool) -> None:
    body = Endless()
    environ: dict[str, Any] = {
        "wsgi.input": body,
        "wsgi.input_terminated": not told,
        "CONTENT_TYPE": "application/json",
    }
    if told:
        environ["CONTENT_LENGTH"] = str(10**9)
    error = error_of(client.post(CHAT_PATH, headers=auth, environ_overrides=environ), 413)
    assert error["code"] == "body_too_large"
    assert body.taken <= 300_000


def test_the_prompt_is_in_no_error(client: FlaskClient, auth: dict[str, str]) -> None:
    messages = [{"role": "canary-role", "content": "canary-text"}]
    assert "canary" not in client.post(CHAT_PATH, json={**CHAT, "messages": messages}, headers=auth).text


@pytest.fixture(scope="module")
def fuzzed() -> Any:
    from qosqueue_web.app import create_app

    with TemporaryDirectory() as home:
        services: MemoryServices = memory_services(Path(home))
        headers = {"Authorization": f"Bearer {key_for(services, 'a')}"}
        yield create_app(cast(Any, services)).test_client(), headers
        services.store.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        *(
            "model",
            "messages",
            "max_tokens",
            "temperature",
            "stop",
            "n",
            "stream",
            "metadata",
            "latency_budget_ms",
            "seed",
        ),
        *("input_file_id", "endpoint", "completion_window", "name", "url", "event_types", "webhook"),
    ]
)
BATCH = {"input_file_id": f"file_{'0' * 24}", "endpoint": CHAT_PATH, "completion_window": "1h"}
WEBHOOK = {"name": "n", "url": "https://example.com", "event_types": ["batch.failed"]}
# Near misses: a sound body with some fields replaced reaches deeper than arbitrary JSON.
BODIES = JSON | st.tuples(st.sampled_from([CHAT, BATCH, WEBHOOK]), st.dictionaries(FIELDS, JSON, max_size=3)).map(
    lambda near: near[0] | near[1]
)
POSTS = {
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/responses/{id}/cancel"),
    *("/v1/jobs", "/v1/jobs/{id}/cancel", "/v1/files", "/v1/batches"),
    *("/v1/batches/{batch_id}/cancel", "/v1/webhook_endpoints", "/v1/webhook_endpoints/{webhook_endpoint_id}"),
    "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret",
}


def test_every_post_route_is_fuzzed(fuzzed: Any) -> None:
    paths = fuzzed[0].get("/openapi.json").get_json()["paths"]
    assert {path for path, methods in paths.items() if "post" in methods} == POSTS


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(sorted(POSTS)), body=BODIES, wrap=st.booleans())
def test_no_json_makes_the_server_fail(fuzzed: Any, path: str, body: Any, wrap: bool) -> None:
    client, headers = fuzzed
    sent = json.dumps({"body": body} if wrap else body)
    response = client.post(
        re.sub(r"\{.*\}", "job_x", path), data=sent, content_type="application/json", headers=headers
    )
    assert response.status_code < 500
    assert not re.search(r"should (be|have|match)|Field required", response.text), "a validator's own words"
    if response.status_code >= 400:
        error_of(response)

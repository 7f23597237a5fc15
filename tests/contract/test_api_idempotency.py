"""Does the same request under the same key happen once, and get the same answer again?"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Failed
from qosqueue.store.tables import IdempotencyRow
from tests.support.memory_services import MODEL, MemoryServices, answer_of, delta
from tests.support.openai_error import error_of

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
# Each POST that makes something, and a body for it.
MAKING: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/v1/embeddings": {"model": MODEL, "input": "Hi"},
    "/v1/responses": {"model": MODEL, "input": "Hi", "background": True},
    "/v1/jobs": {"body": CHAT},
}


# The same of what is no request to a model.
BULK = ("/v1/files", "/v1/batches", "/v1/webhook_endpoints")


def made(services: MemoryServices) -> int:
    """How many requests went further than the door."""
    return len(services.jobs.requests) + len(services.online.requests)


def test_every_post_without_an_id_is_covered(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    assert {path for path, methods in paths.items() if "post" in methods and "{" not in path} == {*MAKING, *BULK}


@pytest.mark.parametrize("path", MAKING)
def test_the_same_again_is_answered_alike_and_made_once(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], other_auth: dict[str, str], path: str
) -> None:
    keyed = {**auth, "Idempotency-Key": "k-1"}
    first = client.post(path, json=MAKING[path], headers=keyed)
    # The same JSON, written in another way.
    text = json.dumps(dict(reversed(MAKING[path].items())), indent=3)
    again = client.post(path, data=text, content_type="application/json", headers=keyed)
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert first.status_code in (200, 202)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    for name in ("Location", "Content-Type", "x-qosqueue-lane"):
        assert again.headers.get(name) == first.headers.get(name)
    assert len(again.headers.getlist("x-request-id")) == 1
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert made(services) == 1

    changed = client.post(path, json={**MAKING[path], "metadata": {"k": "v"}}, headers=keyed)
    assert (error_of(changed, 422)["code"], made(services)) == ("idempotency_key_reused", 1)
    for headers in (auth, {**auth, "Idempotency-Key": "k-2"}, {**other_auth, "Idempotency-Key": "k-1"}):
        assert client.post(path, json=MAKING[path], headers=headers).status_code == first.status_code
    assert made(services) == 4


def test_files_batches_and_webhooks_are_made_once(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    sent: dict[str, dict[str, Any]] = {
        "/v1/files": upload("{}"),
        "/v1/batches": {"json": {"endpoint": "/v1/embeddings", "completion_window": "1h"}},
        "/v1/webhook_endpoints": {
            "json": {"name": "n", "url": "https://hooks.example.com", "event_types": ["batch.failed"]}
        },
    }
    for path in BULK:
        keyed = {**auth, "Idempotency-Key": path}
        first, again = (client.post(path, headers=keyed, **sent[path]) for _ in range(2))
        assert (first.status_code, again.status_code) == (200, 200), first.text
        assert again.headers["Idempotent-Replayed"] == "true"
        told = first.get_json()
        # A secret is told once.
        secret = told.pop("signing_secret", None)
        assert (secret is not None) == (path == "/v1/webhook_endpoints")
        assert again.get_json() == told
        assert [each["id"] for each in client.get(path, headers=auth).get_json()["data"]] == [told["id"]]
        if path == "/v1/files":
            sent["/v1/batches"]["json"]["input_file_id"] = told["id"]
        if secret is not None:
            with services.store.session() as session:
                kept = session.scalars(select(IdempotencyRow.answer)).all()
            assert len(kept) == len(BULK)
            assert secret not in json.dumps(kept)


def upload(content: str, *, boundary: str = "x", name: str = "a.jsonl") -> dict[str, Any]:
    part = f"--{boundary}\r\nContent-Disposition: form-data; name="
    form = f'{part}purpose\r\n\r\nbatch\r\n{part}file; filename="{name}"\r\n\r\n{content}\r\n--{boundary}--\r\n'
    return {"data": form, "content_type": f"multipart/form-data; boundary={boundary}"}


def test_a_file_is_the_same_by_its_content(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = {**auth, "Idempotency-Key": "k"}
    first = client.post("/v1/files", headers=keyed, **upload("{}"))
    assert first.status_code == 200, first.text

    def written() -> Any:
        raise AssertionError("what is told again is not written")

    monkeypatch.setattr(services.files, "new", written)
    # A client makes another boundary for each try.
    again = client.post("/v1/files", headers=keyed, **upload("{}", boundary="another"))
    assert (again.status_code, again.data, again.headers["Idempotent-Replayed"]) == (200, first.data, "true")
    for other in (upload("[]"), upload("{}", name="b.jsonl"), upload("{}" * 9)):
        assert error_of(client.post("/v1/files", headers=keyed, **other), 422)["code"] == "idempotency_key_reused"
    cut = {**upload("{}"), "data": upload("{}")["data"][:-9]}
    assert error_of(client.post("/v1/files", headers=keyed, **cut), 400)["param"] == "file"
    assert client.post("/v1/files", headers=keyed, json={"file": "x"}).status_code == 422
    assert len(client.get("/v1/files", headers=auth).get_json()["data"]) == 1


def test_a_key_belongs_to_one_address(client: FlaskClient, auth: dict[str, str]) -> None:
    keyed = {**auth, "Idempotency-Key": "k"}
    assert client.post("/v1/jobs", json={"body": CHAT}, headers=keyed).status_code == 202
    assert error_of(client.post("/v1/chat/completions", json=CHAT, headers=keyed), 422)["param"] == "Idempotency-Key"


def test_what_is_being_answered_is_told(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    gate = threading.Event()
    services.online.script = lambda request: [gate, *answer_of("Hi")]
    keyed = {**auth, "Idempotency-Key": "k"}
    answers: list[Any] = []
    running = threading.Thread(
        target=lambda: answers.append(
            client.application.test_client().post("/v1/chat/completions", json=CHAT, headers=keyed)
        )
    )
    running.start()
    assert services.online.began.wait(10)
    refused = client.post("/v1/chat/completions", json=CHAT, headers=keyed)
    assert (error_of(refused, 409)["code"], refused.headers["Retry-After"]) == ("idempotency_in_progress", "1")
    other = client.post("/v1/chat/completions", json={**CHAT, "n": 1}, headers=keyed)
    assert error_of(other, 422)["code"] == "idempotency_key_reused"
    gate.set()
    running.join(10)
    assert client.post("/v1/chat/completions", json=CHAT, headers=keyed).data == answers[0].data
    assert made(services) == 1


def test_a_stream_is_told_again_as_a_whole(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    keyed = {**auth, "Idempotency-Key": "k"}
    first = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=keyed)
    text = first.text
    first.close()
    again = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=keyed)
    assert (again.text, again.mimetype, made(services)) == (text, "text/event-stream", 1)
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("case", ["left", "failed"])
def test_a_stream_that_did_not_end_well_leaves_its_key_free(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], case: str
) -> None:
    keyed = {**auth, "Idempotency-Key": "k"}
    if case == "failed":
        broken = Failed({"status": 500, "code": "engine_failed", "message": "it broke", "param": None})
        services.online.script = lambda request: [delta("Hel"), broken]
    response = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=keyed, buffered=False)
    if case == "failed":
        assert "it broke" in response.text
    response.close()
    services.online.script = lambda request: answer_of("Hi")
    again = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=keyed)
    assert again.text.endswith("data: [DONE]\n\n")
    assert made(services) == 2


@pytest.mark.parametrize("wrong", [{"body": {}}, {"nothing": 1}, {"body": {**CHAT, "model": "never"}}])
def test_a_refused_request_leaves_its_key_free(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], wrong: dict[str, Any]
) -> None:
    keyed = {**auth, "Idempotency-Key": "k"}
    assert client.post("/v1/jobs", json=wrong, headers=keyed).status_code in (400, 404)
    services.jobs.refuse_with = Refusal(429, "rate_limit_exceeded", "too many", retry_after_s=1)
    assert client.post("/v1/jobs", json={"body": CHAT}, headers=keyed).status_code == 429
    services.jobs.refuse_with, services.jobs.raise_this = None, KeyError("bug")
    assert client.post("/v1/jobs", json={"body": CHAT}, headers=keyed).status_code == 500
    services.jobs.raise_this = None
    assert client.post("/v1/jobs", json={"body": CHAT}, headers=keyed).status_code == 202
    assert made(services) == 1


@pytest.mark.parametrize("key", ["", "a b", "é", "k" * 256, "a\x01"])
def test_a_key_that_is_none_is_named(client: FlaskClient, auth: dict[str, str], key: str) -> None:
    error = error_of(client.post("/v1/jobs", json={"body": CHAT}, headers={**auth, "Idempotency-Key": key}), 400)
    assert error["param"] == "Idempotency-Key"


def test_without_the_record_nothing_is_accepted_under_a_key(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(services.idempotency, "claim", away)
    keyed = {**auth, "Idempotency-Key": "k"}
    assert error_of(client.post("/v1/jobs", json={"body": CHAT}, headers=keyed), 503)["code"] == "store_unavailable"
    assert made(services) == 0


def test_a_cancellation_is_no_making(client: FlaskClient, auth: dict[str, str]) -> None:
    keyed = {**auth, "Idempotency-Key": "k"}
    place = client.post("/v1/jobs", json={"body": CHAT}, headers=keyed).headers["Location"]
    for _ in range(2):
        cancelled = client.post(f"{place}/cancel", headers=keyed)
        assert (cancelled.status_code, "Idempotent-Replayed" in cancelled.headers) == (200, False)

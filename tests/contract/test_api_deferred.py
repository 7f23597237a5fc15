"""Who agrees to a job, and whose policy says so, gets 202 in place of a refusal; who does not is told of the header."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.refusal import Rate, Rates, Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.answers import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from qosqueue.service.online import Failed
from tests.support.memory_services import MODEL, MemoryServices, delta
from tests.support.openai_error import error_of

LATE = Refusal(429, "resource_unavailable", "It would be late.", retry_after_s=3, as_job=True)
FAILED = {"status": 500, "code": "engine_failed", "message": "The model failed.", "param": None}
ASYNC = {"Prefer": "respond-async"}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"model": MODEL, "prompt": "Hi"},
    EMBEDDINGS: {"model": MODEL, "input": "Hi"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_what_is_refused_at_the_door_becomes_a_job(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], path: str, stream: bool
) -> None:
    services.online.refuse_with = LATE
    services.jobs.rates = Rates(requests=Rate(60, 12, 48_000))
    body = BODIES[path] | ({"stream": True} if stream and path != EMBEDDINGS else {})
    response = client.post(path, json=body, headers={**auth, **ASYNC, "x-stainless-read-timeout": "5"})
    assert response.status_code == 202, response.text
    job = response.get_json()
    assert (job["object"], job["status"], job["task_type"], job["endpoint"]) == ("job", "queued", "async", path)
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.headers["Retry-After"] == "1"
    assert response.headers["x-ratelimit-remaining-requests"] == "12"
    assert response.headers["x-qosqueue-detour"] == "defer"
    assert client.get(response.headers["Location"], headers=auth).get_json() == job
    (made,) = services.jobs.requests
    assert (made.task_type, made.ttl_ms, made.stream, made.waits_for_model) == (TaskType.ASYNC, None, False, True)


@pytest.mark.parametrize("prefer", ["Respond-Async", "wait=10, respond-async", "respond-async,handling=lenient"])
def test_the_header_is_read_as_rfc_7240_has_it(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], prefer: str
) -> None:
    services.online.refuse_with = LATE
    assert client.post(CHAT, json=BODIES[CHAT], headers={**auth, "Prefer": prefer}).status_code == 202


@pytest.mark.parametrize("prefer", ["", "wait=10", "respond-asynchronously", "respond-async=no", "é"])
def test_without_it_the_refusal_is_told(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], prefer: str
) -> None:
    services.online.refuse_with = LATE
    response = client.post(CHAT, json=BODIES[CHAT], headers={**auth, "Prefer": prefer})
    assert error_of(response, 429)["code"] == "resource_unavailable"
    assert services.jobs.requests == []


def test_the_header_alone_changes_nothing(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    """Neither what is answered at once, nor what the policy refuses, nor a response, which has `background`."""
    assert client.post(CHAT, json=BODIES[CHAT], headers={**auth, **ASYNC}).status_code == 200
    services.online.refuse_with = replace(LATE, as_job=False)
    error_of(client.post(CHAT, json=BODIES[CHAT], headers={**auth, **ASYNC}), 429)
    services.online.refuse_with = LATE
    error_of(client.post(RESPONSES, json={"model": MODEL, "input": "Hi"}, headers={**auth, **ASYNC}), 429)
    assert services.jobs.requests == []


def test_a_job_that_is_refused_too_is_told_so(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    services.online.refuse_with = LATE
    services.jobs.refuse_with = Refusal(503, "queue_full", "As many wait as may.", retry_after_s=2)
    response = client.post(CHAT, json=BODIES[CHAT], headers={**auth, **ASYNC})
    assert error_of(response, 503)["code"] == "queue_full"
    assert "Preference-Applied" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
def test_what_its_model_has_failed_becomes_a_job_of_its_own(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], stream: bool
) -> None:
    services.online.script = lambda request: [Failed(FAILED, as_job=True)]
    response = client.post(CHAT, json=BODIES[CHAT] | {"stream": stream}, headers={**auth, **ASYNC})
    assert response.status_code == 202
    (call,) = services.online.calls
    assert call.closed.is_set()
    assert response.get_json()["id"] != call.id, "the failed one is on record under its own id"
    error_of(client.post(CHAT, json=BODIES[CHAT] | {"stream": stream}, headers=auth), 500)


def test_what_has_begun_to_answer_never_becomes_a_job(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    services.online.script = lambda request: [delta("Hel"), Failed(FAILED, as_job=True)]
    response = client.post(CHAT, json=BODIES[CHAT] | {"stream": True}, headers={**auth, **ASYNC})
    assert response.status_code == 200
    assert '"code":"engine_failed"' in response.text
    assert services.jobs.requests == []


def test_under_one_key_it_is_one_job(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.refuse_with = LATE
    keyed = {**auth, **ASYNC, "Idempotency-Key": "once"}
    first = client.post(CHAT, json=BODIES[CHAT], headers=keyed)
    again = client.post(CHAT, json=BODIES[CHAT], headers=keyed)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.get_json() == first.get_json()
    assert len(services.jobs.requests) == 1


def test_the_document_tells_of_it(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    for path in BODIES:
        operation = paths[path]["post"]
        schema = operation["responses"]["202"]["content"]["application/json"]["schema"]
        assert schema["$ref"].endswith("/JobAnswer")
        (prefer,) = [each for each in operation["parameters"] if each["in"] == "header"]
        assert (prefer["name"], prefer["required"]) == ("Prefer", False)
        assert "respond-async" in prefer["description"]
    assert "202" not in paths[RESPONSES]["post"]["responses"]

"""Do /v1/completions, service tiers and the client's hints keep their contract?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import PRIORITY_RANGES, ServiceTier, TaskType, Tier
from tests.support.memory_services import MODEL, MemoryServices
from tests.support.openai_error import error_of
from tests.support.scripts_of_answers import said

PATH = "/v1/completions"
ASKED: dict[str, Any] = {"model": MODEL, "prompt": "Once"}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_whole_answer(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.script = said(" upon", " a time")
    answer = client.post(PATH, json={**ASKED, "temperature": 0, "stop": ["x"], "seed": 1}, headers=auth)
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["choices"][0]["text"] == " upon a time"
    (request,) = services.online.requests
    assert (request.endpoint, request.task_type, request.max_output_tokens) == (PATH, TaskType.ONLINE, 16)
    assert request.body == {
        "model": MODEL, "prompt": "Once", "max_tokens": 16, "temperature": 0.0, "stop": ["x"], "seed": 1,
    }  # fmt: skip


def test_stream(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.script = said(" upon", " a time")
    sent = {**ASKED, "prompt": ["Once"], "stream": True, "stream_options": {"include_usage": True}}
    lines = client.post(PATH, json=sent, headers=auth).text.split("\n\n")
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert lines[-2:] == ["data: [DONE]", ""]
    assert {(chunk["object"], chunk["service_tier"]) for chunk in data} == {("text_completion", "default")}
    assert "".join(choice["text"] for chunk in data for choice in chunk["choices"]) == " upon a time"
    assert [choice["finish_reason"] for chunk in data for choice in chunk["choices"]] == [None, None, "length"]
    assert data[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1]}, "prompt[0]"),
        ({"prompt": None}, "prompt"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"logprobs": 1}, "logprobs"),
        ({"suffix": "x"}, "suffix"),
        ({"messages": []}, "messages"),
        ({"service_tier": "ultrafast"}, "service_tier"),
    ],
)
def test_wrong_field_is_named(client: FlaskClient, auth: dict[str, str], wrong: dict[str, Any], param: str) -> None:
    body = {**ASKED, **wrong}
    assert error_of(client.post(PATH, json=body, headers=auth), 400)["param"] == param
    job = client.post("/v1/jobs", json={"endpoint": PATH, "body": body}, headers=auth)
    assert error_of(job, 400)["param"] == f"body.{param}"


def test_prompt_that_cannot_fit(client: FlaskClient, auth: dict[str, str]) -> None:
    error = error_of(client.post(PATH, json={**ASKED, "prompt": "x" * (512 * 16 + 1)}, headers=auth), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")


TIERS = [
    (None, ServiceTier.DEFAULT),
    ("auto", ServiceTier.DEFAULT),
    ("default", ServiceTier.DEFAULT),
    ("scale", ServiceTier.DEFAULT),
    ("priority", ServiceTier.PRIORITY),
    ("fast", ServiceTier.PRIORITY),
    ("flex", ServiceTier.FLEX),
]


@pytest.mark.parametrize(("asked", "used"), TIERS)
def test_the_answer_names_the_service_tier_that_was_used(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], asked: str | None, used: ServiceTier
) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "service_tier": asked, "stream": True}, headers=auth)
    first = next(line for line in answer.text.split("\n\n") if line.startswith("data: {"))
    assert json.loads(first.removeprefix("data: "))["service_tier"] == used
    assert answer.headers["x-qosqueue-service-tier"] == used
    assert services.online.requests[0].service_tier is used
    allowed = PRIORITY_RANGES[Tier.STANDARD]
    assert allowed.first <= int(answer.headers["x-qosqueue-priority"]) <= allowed.last
    for body in ({"body": CHAT, "service_tier": asked}, {"body": {**CHAT, "service_tier": asked}}):
        job = client.post("/v1/jobs", json=body, headers=auth)
        assert (job.get_json()["service_tier"], job.headers["x-qosqueue-service-tier"]) == (used, used)


@pytest.mark.parametrize(
    ("read_s", "stream", "ttl_ms"),
    [("5", False, 5000), ("2.5", False, 2500), ("5", True, None), ("600", False, None), ("soon", False, None)],
)
def test_the_time_that_the_client_reads_is_the_deadline_of_a_whole_answer(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], read_s: str, stream: bool, ttl_ms: int | None
) -> None:
    headers = {**auth, "x-stainless-read-timeout": read_s}
    assert client.post("/v1/chat/completions", json={**CHAT, "stream": stream}, headers=headers).status_code == 200
    assert services.online.requests[0].ttl_ms == ttl_ms


@pytest.mark.parametrize("tries", ["0", "3", "99", "-1", "x"])
def test_who_tries_again_is_told_to_wait_longer(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], tries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.randint", lambda least, most: most)
    services.online.refuse_with = services.jobs.refuse_with = Refusal(503, "queue_full", "full")
    most = {"3": 40, "99": 120}.get(tries, 5)
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/jobs", {"body": CHAT})):
        refused = client.post(path, json=body, headers={**auth, "x-stainless-retry-count": tries})
        assert refused.headers["Retry-After"] == str(most)


def test_a_trace_is_passed_on_and_told_back(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    for budget in ({}, {"X-Latency-Budget-Ms": "700"}):  # in front of Flask, and behind it
        answer = client.post("/v1/chat/completions", json=CHAT, headers={**auth, **budget, "traceparent": TRACE})
        assert answer.headers.getlist("traceparent") == [TRACE]
        assert services.online.requests[-1].traceparent == TRACE
        assert services.online.requests[-1].details == {"metadata": {}, "traceparent": TRACE}
    for wrong in ("", "x", TRACE.upper(), f"ff{TRACE[2:]}", f"00-{'0' * 32}{TRACE[35:]}", f"{TRACE}\x01"):
        answer = client.post("/v1/chat/completions", json=CHAT, headers={**auth, "traceparent": wrong})
        assert (answer.status_code, "traceparent" in answer.headers) == (200, False)
        assert services.online.requests[-1].traceparent is None


# What gateways and engines in use take from whoever may set it.
QOS_HEADERS = (
    "x-gateway-inference-fairness-id", "x-gateway-inference-objective", "x-gateway-destination-endpoint", "x-priority",
    "x-request-priority", "x-slo-ttft-ms", "x-slo-tpot-ms", "x-smg-priority", "x-dynamo-priority", "priority",
    "x-tenant-id", "x-qosqueue-priority", "x-qosqueue-lane", "x-qosqueue-service-tier",
)  # fmt: skip


def test_headers_that_steer_engines_go_no_further(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    sent = {**auth, **dict.fromkeys(QOS_HEADERS, "canary-0")}
    assert client.post("/v1/chat/completions", json=CHAT, headers=sent).status_code == 200
    assert client.post("/v1/jobs", json={"body": CHAT}, headers=sent).status_code == 202
    plain = client.post("/v1/chat/completions", json=CHAT, headers=auth)
    steered, job, usual = (*services.online.requests[:1], *services.jobs.requests, services.online.requests[-1])
    assert "canary" not in f"{steered}{job}"
    assert steered.__dict__ | {"id": ""} == usual.__dict__ | {"id": ""}
    assert plain.status_code == 200

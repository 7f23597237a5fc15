"""Is a response a view of its job, at once, streamed and in the background?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import TaskType
from qosqueue.service.online import Failed
from tests.support.memory_services import MODEL, MemoryServices, delta
from tests.support.openai_error import error_of
from tests.support.scripts_of_answers import response_result, script

PATH = "/v1/responses"
ASKED: dict[str, Any] = {"model": MODEL, "input": "Hi"}


def test_at_once(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.script = script("Hello")
    sent = {
        "model": MODEL,
        "instructions": "Be short.",
        "input": [
            {"role": "developer", "content": "x"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ],
        "max_output_tokens": 9,
        "metadata": {"k": "v"},
        "temperature": 0,
        "text": {"format": {"type": "text"}},
        "store": True,
    }
    answer = client.post(PATH, json=sent, headers=auth).get_json()
    assert (answer["object"], answer["status"], answer["metadata"]) == ("response", "completed", {"k": "v"})
    assert answer["output"][0]["content"][0] == {"type": "output_text", "text": "Hello", "annotations": []}
    assert (answer["usage"]["input_tokens"], answer["usage"]["total_tokens"]) == (7, 9)
    (request,) = services.online.requests
    assert (request.endpoint, request.task_type, request.recorded_at_once) == (PATH, TaskType.ONLINE, True)
    assert request.body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "system", "content": "x"},
        {"role": "user", "content": "Hi"},
    ]
    assert (request.body["max_tokens"], request.body["temperature"]) == (9, 0.0)


def test_stream(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.online.script = script("Hel", "lo", finish_reason="length")
    text = client.post(PATH, json={**ASKED, "stream": True}, headers=auth).text
    events = [line.split("\n") for line in text.split("\n\n") if line]
    data = [json.loads(line.removeprefix("data: ")) for _, line in events]
    kinds = [each["type"] for each in data]
    assert [f"event: {kind}" for kind in kinds] == [name for name, _ in events]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [each["sequence_number"] for each in data] == list(range(len(data)))
    assert "".join(each["delta"] for each in data if "delta" in each) == "Hello"
    assert data[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert len({each["response"]["id"] for each in data if "response" in each}) == 1


def test_failure_mid_stream(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    failed = Failed({"status": 500, "code": "engine_failed", "message": "it broke", "param": None})
    services.online.script = lambda request: [delta("Hel"), failed]
    text = client.post(PATH, json={**ASKED, "stream": True}, headers=auth).text
    last = json.loads([line for line in text.split("\n") if line.startswith("data: ")][-1].removeprefix("data: "))
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "engine_failed", "message": "it broke"}
    assert last["response"]["output"][0]["content"][0]["text"] == "Hel"


ENDS = [
    (JobStatus.ACCEPTED, "queued"),
    (JobStatus.QUEUED, "queued"),
    (JobStatus.RUNNING, "in_progress"),
    (JobStatus.CANCELLED, "cancelled"),
    (JobStatus.FAILED, "failed"),
    (JobStatus.EXPIRED, "failed"),
    (JobStatus.REJECTED, "failed"),
]


def test_every_status_of_a_job_has_its_word() -> None:
    assert {status for status, _ in ENDS} | {JobStatus.SUCCEEDED} == set(JobStatus)


@pytest.mark.parametrize(("status", "told"), ENDS)
def test_background(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], status: JobStatus, told: str
) -> None:
    sent = {**ASKED, "background": True, "metadata": {"k": "v"}, "service_tier": "flex"}
    made = client.post(PATH, json=sent, headers=auth).get_json()
    assert (made["status"], made["background"], made["service_tier"], made["output"]) == ("queued", True, "flex", [])
    job_id = made["id"].replace("resp_", "job_")
    assert services.jobs.requests[0].task_type is TaskType.ASYNC
    error = {"status": 504, "code": "deadline_exceeded", "message": "late", "param": None}
    services.jobs.change(job_id, status=status, error=error if told == "failed" else None)
    found = client.get(f"{PATH}/{made['id']}", headers=auth).get_json()
    assert (found["status"], found["metadata"]) == (told, {"k": "v"})
    assert found["error"] == ({"code": "deadline_exceeded", "message": "late"} if told == "failed" else None)


def test_background_to_its_end(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    made = client.post(PATH, json={**ASKED, "background": True}, headers=auth).get_json()
    result = response_result(services.jobs.requests[0], "Hello")
    services.jobs.change(made["id"].replace("resp_", "job_"), status=JobStatus.SUCCEEDED, result=result)
    found = client.get(f"{PATH}/{made['id']}", headers=auth).get_json()
    assert found == result
    assert set(found) == set(made)
    assert client.post(f"{PATH}/{made['id']}/cancel", headers=auth).get_json() == result


def test_cancel(client: FlaskClient, auth: dict[str, str]) -> None:
    made = client.post(PATH, json={**ASKED, "background": True}, headers=auth).get_json()
    assert client.post(f"{PATH}/{made['id']}/cancel", headers=auth).get_json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "text": ""}]}]}, "input[0].content[0].type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": []}, "tools"),
        ({"store": False}, "store"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format.type"),
        ({"background": True, "stream": True}, "stream"),
        ({"background": True, "input": "x" * 9000}, "input"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_field_is_named(client: FlaskClient, auth: dict[str, str], wrong: dict[str, Any], param: str) -> None:
    assert error_of(client.post(PATH, json={**ASKED, **wrong}, headers=auth), 400)["param"] == param


def test_as_a_job(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    job = client.post("/v1/jobs", json={"endpoint": PATH, "body": ASKED}, headers=auth).get_json()
    assert client.get(f"{PATH}/{job['id'].replace('job_', 'resp_')}", headers=auth).get_json()["status"] == "queued"

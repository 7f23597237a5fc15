"""Can a tenant submit, poll, list and cancel its jobs, and only its own?"""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Rate, Rates, Refusal
from qosqueue.policy.terms import TaskType
from tests.support.bulk import add_webhook, create_batch, upload
from tests.support.memory_services import MODEL, MemoryServices
from tests.support.openai_error import error_of

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
FIELDS = {
    "id", "object", "status", "model", "endpoint", "task_type", "priority", "lane", "latency_class",
    "latency_budget_ms", "created_at", "expires_at", "queued_at", "started_at", "first_token_at", "finished_at",
    "attempts", "result", "error", "usage", "metadata", "service_tier",
}  # fmt: skip


def submit(client: FlaskClient, auth: dict[str, str], **fields: Any) -> str:
    response = client.post("/v1/jobs", json={"body": CHAT, **fields}, headers=auth)
    assert response.status_code == 202, response.text
    return str(response.get_json()["id"])


def test_submit(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    sent = {"body": CHAT, "task_type": "batch", "latency_budget_ms": 700, "deadline_ms": 5000, "metadata": {"k": "v"}}
    response = client.post("/v1/jobs", json=sent, headers=auth)
    assert response.status_code == 202
    job = response.get_json()
    assert set(job) == FIELDS
    assert (job["object"], job["status"], job["lane"]) == ("job", "queued", "standard.light")
    assert job["metadata"] == {"k": "v"}
    assert job["expires_at"] - job["created_at"] == pytest.approx(5)
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["Retry-After"] == "1"
    assert not [name for name, _ in response.headers if name.startswith("x-ratelimit")], "it has no such limit"
    (request,) = services.jobs.requests
    assert (request.task_type, request.latency_budget_ms, request.ttl_ms) == (TaskType.BATCH, 700, 5000)
    assert client.get(response.headers["Location"], headers=auth).get_json() == job


def test_what_is_left_of_its_tenants_limits_is_told(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str]
) -> None:
    services.jobs.rates = Rates(requests=Rate(60, 12, 48_000), tokens=Rate(100, 90, 900))
    answers = [
        client.post("/v1/jobs", json={"body": CHAT}, headers=auth),
        client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "background": True}, headers=auth),
    ]
    assert [answer.status_code for answer in answers] == [202, 200]
    for answer in answers:
        told = {name: value for name, value in answer.headers if name.startswith("x-ratelimit")}
        assert told == {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "12",
            "x-ratelimit-reset-requests": "48s",
            "x-ratelimit-limit-tokens": "100",
            "x-ratelimit-remaining-tokens": "90",
            "x-ratelimit-reset-tokens": "900ms",
        }


def test_ended_job(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    good, bad = submit(client, auth), submit(client, auth)
    services.jobs.change(
        good, status=JobStatus.SUCCEEDED, result={"id": "x"}, prompt_tokens=3, completion_tokens=4, finished_ms=1500
    )
    services.jobs.change(bad, status=JobStatus.FAILED, error={"status": 400, "code": "c", "message": "m"})
    job = client.get(f"/v1/jobs/{good}", headers=auth).get_json()
    assert (job["status"], job["result"], job["finished_at"]) == ("succeeded", {"id": "x"}, 1.5)
    assert job["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    error = client.get(f"/v1/jobs/{bad}", headers=auth).get_json()["error"]
    assert error == {"code": "c", "message": "m", "param": None, "type": "invalid_request_error"}


@pytest.mark.parametrize(("query", "headers"), [("?wait=30", {}), ("", {"Prefer": "respond-async, wait=30"})])
def test_wait_ends_with_the_job(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], query: str, headers: dict[str, str]
) -> None:
    job_id = submit(client, auth)
    ender = threading.Timer(0.05, services.jobs.change, [job_id], {"status": JobStatus.SUCCEEDED})
    ender.start()
    job = client.get(f"/v1/jobs/{job_id}{query}", headers={**auth, **headers}).get_json()
    ender.join()
    assert job["status"] == "succeeded"


def test_wait_ends_with_the_time(client: FlaskClient, auth: dict[str, str]) -> None:
    job_id = submit(client, auth)
    assert client.get(f"/v1/jobs/{job_id}?wait=0.05", headers=auth).get_json()["status"] == "queued"


def test_cancel(client: FlaskClient, auth: dict[str, str]) -> None:
    job_id = submit(client, auth)
    assert client.post(f"/v1/jobs/{job_id}/cancel", headers=auth).get_json()["status"] == "cancelled"
    again = client.post(f"/v1/jobs/{job_id}/cancel", headers=auth)
    assert (again.status_code, again.get_json()["status"]) == (200, "cancelled")


def test_pages_meet_without_overlap(client: FlaskClient, auth: dict[str, str], other_auth: dict[str, str]) -> None:
    made = [submit(client, auth) for _ in range(5)]
    submit(client, other_auth)
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = client.get(f"/v1/jobs{query}", headers=auth).get_json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        query = f"?limit=2&before={page['last_id']}"
    assert seen == list(reversed(made))


def test_refusal_and_outage(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.jobs.refuse_with = Refusal(503, "queue_full", "full", retry_after_s=9)
    response = client.post("/v1/jobs", json={"body": CHAT}, headers=auth)
    assert error_of(response, 503)["code"] == "queue_full"
    assert response.headers["Retry-After"] == "9"
    services.jobs.raise_this = StoreUnavailable("locked")
    response = client.post("/v1/jobs", json={"body": CHAT}, headers=auth)
    assert error_of(response, 503)["code"] == "store_unavailable"
    assert 1 <= int(response.headers["Retry-After"]) <= 5


# Every route of the document, and what kind of thing its id names; None: the route takes no id of a tenant's.
WITH_ID = {
    ("get", "/v1/jobs/{id}"): "job",
    ("post", "/v1/jobs/{id}/cancel"): "job",
    ("get", "/v1/jobs/{id}/explain"): "job",
    ("get", "/v1/responses/{id}"): "resp",
    ("post", "/v1/responses/{id}/cancel"): "resp",
    ("get", "/v1/files/{file_id}"): "file",
    ("get", "/v1/files/{file_id}/content"): "file",
    ("delete", "/v1/files/{file_id}"): "file",
    ("get", "/v1/batches/{batch_id}"): "batch",
    ("post", "/v1/batches/{batch_id}/cancel"): "batch",
    ("get", "/v1/webhook_endpoints/{webhook_endpoint_id}"): "whe",
    ("post", "/v1/webhook_endpoints/{webhook_endpoint_id}"): "whe",
    ("post", "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret"): "whe",
    ("delete", "/v1/webhook_endpoints/{webhook_endpoint_id}"): "whe",
    ("get", "/v1/files"): None,  # test_api_files
    ("post", "/v1/files"): None,
    ("get", "/v1/batches"): None,  # test_api_batches
    ("post", "/v1/batches"): None,  # test_api_batches: its input file is the tenant's own
    ("get", "/v1/webhook_endpoints"): None,  # test_api_webhooks
    ("post", "/v1/webhook_endpoints"): None,
    ("post", "/v1/responses"): None,
    ("get", "/v1/jobs"): None,  # test_pages_meet_without_overlap
    ("post", "/v1/jobs"): None,
    ("post", "/v1/chat/completions"): None,
    ("post", "/v1/completions"): None,
    ("post", "/v1/embeddings"): None,
    ("get", "/v1/models"): None,
    ("get", "/v1/models/{name}"): None,  # models belong to all tenants
    ("get", "/healthz"): None,
    ("get", "/readyz"): None,
}


def test_another_tenants_id_is_an_unknown_id(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], other_auth: dict[str, str]
) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    routes = {(method, path) for path, methods in paths.items() for method in methods}
    assert routes == set(WITH_ID), "a new route needs an entry here"
    sent = {"model": MODEL, "input": "Hi", "background": True}
    own = {
        "job": submit(client, auth),
        "resp": client.post("/v1/responses", json=sent, headers=auth).get_json()["id"],
        "file": upload(client, auth),
        "whe": add_webhook(client, auth),
    }
    own["batch"] = create_batch(client, auth, own["file"])
    for (method, path), kind in WITH_ID.items():
        if kind is None:
            continue
        assert own[kind].startswith(f"{kind}_")
        foreign, unknown, garbage = (
            client.open(
                re.sub(r"\{.*\}", name, path),
                method=method.upper(),
                headers=other_auth,
                json={} if path.endswith("{webhook_endpoint_id}") and method == "post" else None,
            )
            for name in (own[kind], f"{kind}_{'0' * 24}", "%00'")
        )
        assert foreign.status_code == unknown.status_code == garbage.status_code == 404, (method, path)
        assert foreign.data == unknown.data == garbage.data
        # The id is one that its tenant finds, and no other kind's id is taken for it.
        if method == "get":
            assert client.get(re.sub(r"\{.*\}", own[kind], path), headers=auth).status_code == 200
            for other, name in own.items():
                same_digits = f"{kind}_{name.partition('_')[2]}"
                for wrong in {name, same_digits} - {own[kind]}:
                    found = client.get(re.sub(r"\{.*\}", wrong, path), headers=auth).status_code
                    # A response is a job too.
                    assert found == (200 if (kind, other, wrong) == ("job", "resp", same_digits) else 404), wrong
    for path in ("files", "batches", "webhook_endpoints"):
        assert client.get(f"/v1/{path}", headers=other_auth).get_json()["data"] == []
    job_id = own["job"]
    assert {job.status for job in services.jobs.rows.values()} == {JobStatus.QUEUED}
    pages = [client.get(f"/v1/jobs?before={before}", headers=other_auth) for before in (job_id, "job_" + "0" * 24)]
    assert [page.status_code for page in pages] == [404, 404]
    assert pages[0].data == pages[1].data

"""Do the routes fit the real services, over a real broker and SQL? No worker runs: what is queued stays queued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from qosqueue.policy.terms import Tier
from qosqueue.settings import Settings
from qosqueue.wiring import Services, build
from tests.support.eventually import eventually
from tests.support.openai_error import error_of
from tests.support.tables import make_tables

MODEL = "smollm2"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    make_tables(settings.sql_url())
    made = build(settings)
    made.catalog.add_model(MODEL, "simulated", actor="test", memory_bytes=1000, context_tokens=512, slots=4)
    yield made
    made.close()


@pytest.fixture
def client(services: Services) -> FlaskClient:
    from qosqueue_web.app import create_app

    return create_app(services).test_client()


def key_of(services: Services, name: str, **limits: int) -> dict[str, str]:
    services.accounts.create_tenant(name, Tier.VIP, actor="test", **limits)
    return {"Authorization": f"Bearer {services.accounts.create_key(name, actor='test').key}"}


def test_job_from_submit_to_cancel(client: FlaskClient, services: Services) -> None:
    mine, theirs = key_of(services, "a"), key_of(services, "b")
    submitted = client.post("/v1/jobs", json={"body": CHAT, "metadata": {"k": "v"}}, headers=mine)
    assert submitted.status_code == 202, submitted.text
    place = submitted.headers["Location"]
    job = client.get(f"{place}?wait=0.1", headers=mine).get_json()
    assert (job["status"], job["lane"], job["metadata"]) == ("queued", "vip.light", {"k": "v"})
    assert [each["id"] for each in client.get("/v1/jobs", headers=mine).get_json()["data"]] == [job["id"]]
    assert client.get("/v1/jobs", headers=theirs).get_json()["data"] == []
    error_of(client.get(f"/v1/jobs?before={job['id']}", headers=theirs), 404)
    for foreign in (client.get(place, headers=theirs), client.post(f"{place}/cancel", headers=theirs)):
        assert error_of(foreign, 404)["code"] == "job_not_found"
    assert client.post(f"{place}/cancel", headers=mine).get_json()["status"] == "cancelled"
    assert client.get(f"{place}?wait=30", headers=mine).get_json()["status"] == "cancelled"


def test_client_that_leaves_the_queue_leaves_no_trace(client: FlaskClient, services: Services) -> None:
    sent = {**CHAT, "stream": True}
    response = client.post("/v1/chat/completions", json=sent, headers=key_of(services, "a"), buffered=False)
    assert response.status_code == 200
    assert next(line for line in response.response if line != b": keep-alive\n\n") == b": queued position=1\n\n"
    depth = {lane.lane: lane.depth for lane in services.queues.lanes()}
    assert depth["vip.light"] == 1
    response.close()
    eventually(lambda: not any(lane.depth for lane in services.queues.lanes()), 2)


def test_quota(client: FlaskClient, services: Services) -> None:
    headers = key_of(services, "a", requests_per_minute=1)
    assert client.post("/v1/jobs", json={"body": CHAT}, headers=headers).status_code == 202
    response = client.post("/v1/jobs", json={"body": CHAT}, headers=headers)
    assert error_of(response, 429)["code"] == "rate_limit_exceeded"
    assert 1 <= int(response.headers["Retry-After"]) <= 120


def test_ready_says_what_is_missing(client: FlaskClient) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.get_json()["reasons"]) == (503, [f"no replica of {MODEL} is ready"])


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/jobs", {"body": CHAT})])
def test_broker_that_takes_nothing(
    client: FlaskClient, services: Services, redis_client: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    headers = key_of(services, "a")
    redis_client.config_set("maxmemory", 1)
    try:
        response = client.post(path, json=body, headers=headers)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert error_of(response, 503)["code"] == "broker_unavailable"
    assert 1 <= int(response.headers["Retry-After"]) <= 5

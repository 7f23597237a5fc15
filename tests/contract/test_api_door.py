"""Who gets in, and what does every answer carry: keys, errors, ids, security headers, the document, health?"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from qosqueue.broker.replicas import ReplicaState
from qosqueue.errors import StoreUnavailable
from tests.support.memory_services import MODEL, MemoryServices, live_replica
from tests.support.openai_error import error_of

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", "Bearer nonsense", "Basic eDp5", "Bearer qq_" + "x" * 43, "Bearer é", "Bearer a b"],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/chat/completions"), ("POST", "/v1/jobs"), ("GET", "/v1/models")]
)
def test_no_key_no_answer(client: FlaskClient, method: str, path: str, value: str | None) -> None:
    headers = {} if value is None else {"Authorization": value}
    response = client.open(path, method=method, headers=headers, data=b"not even JSON")
    assert error_of(response, 401)["code"] == "invalid_api_key"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_two_keys_are_none(client: FlaskClient, auth: dict[str, str]) -> None:
    doubled = {"Authorization": f"{auth['Authorization']},{auth['Authorization']}"}  # as WSGI joins two headers
    assert error_of(client.get("/v1/models", headers=doubled), 401)["code"] == "invalid_api_key"


def test_all_routes_under_v1_ask_for_a_key(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            status = client.open(re.sub(r"\{.*?\}", "x", path), method=method.upper()).status_code
            assert (status == 401) == path.startswith("/v1/"), (method, path)


def test_revoked_key(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    (tenant,) = services.accounts.list_tenants()
    (key,) = services.accounts.list_keys(tenant.id)
    assert client.get("/v1/models", headers=auth).status_code == 200
    services.accounts.revoke_key(key.id, actor="test")
    assert client.get("/v1/models", headers=auth).status_code == 401


def test_errors_of_the_frame(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert error_of(client.get("/v1/nothing", headers=auth), 404)["code"] == "not_found"
    response = client.delete("/v1/jobs", headers=auth)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert "POST" in response.headers["Allow"]

    def broken() -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(services.catalog, "list_models", broken)
    response = client.get("/v1/models", headers=auth)
    assert error_of(response, 500)["code"] == "internal_error"
    assert "canary" not in response.text


def test_request_id(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "my-id.1"}).headers["x-request-id"] == "my-id.1"
    for insane in ("a b", "x" * 129, "<b>", ""):
        given = client.get("/healthz", headers={"x-request-id": insane}).headers["x-request-id"]
        assert given.startswith("req_")


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nothing", "/openapi.json"])
def test_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    # No answer of the API is a page: it loads nothing and is shown in nothing.
    assert policy == "default-src 'none'; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in headers
    assert "Vary" not in headers, "the answer does not depend on a cookie"
    assert headers["Cache-Control"] == "no-store"


def test_models(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.catalog.add_model(
        "off", "simulated", actor="test", memory_bytes=1, context_tokens=1, slots=1, enabled=False
    )
    listed = client.get("/v1/models", headers=auth).get_json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert client.get(f"/v1/models/{MODEL}", headers=auth).get_json() == listed["data"][0]
    for name in ("off", "never", "or%2Fg", "%00"):
        assert error_of(client.get(f"/v1/models/{name}", headers=auth), 404)["code"] == "model_not_found"


def test_document(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"] == "3.1.0"
    assert document["paths"]["/v1/jobs"]["post"]["security"] == [{"bearer": []}]
    schemas = document["components"]["schemas"]
    assert {"ChatBody", "JobBody", "ErrorBody", "JobAnswer"} <= set(schemas)
    assert "latency_budget_ms" in schemas["ChatBody"]["properties"]

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_health(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok", "reasons": []}
    assert client.get("/readyz").get_json() == {"status": "ok", "reasons": []}


def test_not_ready(client: FlaskClient, services: MemoryServices) -> None:
    def away() -> None:
        raise redis.ConnectionError("refused")

    def locked() -> None:
        raise StoreUnavailable("locked")

    others = [
        live_replica("other"),
        live_replica(MODEL, ReplicaState.LOADING),
        live_replica(MODEL, ReplicaState.DRAINING),
    ]
    services.queues = SimpleNamespace(replicas=lambda: others)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["reasons"] == [f"no replica of {MODEL} is ready"]
    services.redis, services.store = (
        SimpleNamespace(ping=away),
        SimpleNamespace(ping=locked, close=services.store.close),
    )
    assert client.get("/readyz").get_json()["reasons"] == ["database unavailable", "broker unavailable"]
    assert client.get("/healthz").status_code == 200

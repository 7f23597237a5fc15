"""What may whom do through the admin API, and how does it say no? Over the real services, a broker and SQL."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.terms import Tier
from qosqueue.service.user_tokens import UserTokens
from qosqueue.store.records import Role
from qosqueue.wiring import Services
from qosqueue_web.admin.access import RIGHTS
from qosqueue_web.admin_api.access import OPERATIONS
from scripts.generated_block import ROOT
from tests.support.admin_api import (
    BASE,
    MODEL,
    admin_fixture,  # noqa: F401
    bearer,
    client_fixture,  # noqa: F401
    problem_of,
    services_fixture,  # noqa: F401
    token_of,
)

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "my secret question"}]}


def routes(client: FlaskClient, headers: dict[str, str]) -> list[tuple[str, str, str]]:
    """Method, path and operation of everything in the document."""
    paths = client.get(f"{BASE}/openapi.json", headers=headers).get_json()["paths"]
    return [
        (method.upper(), path, told["operationId"])
        for path, methods in paths.items()
        for method, told in methods.items()
    ]


def filled(path: str) -> str:
    for name in ("tenant", "key_id", "job_id", "task"):
        path = path.replace(f"{{{name}}}", f"no-{name}")
    return path.replace("{name}", "l:basic.light").replace("{number}", "1").replace("{lane}", "basic.light")


@pytest.mark.parametrize("role", [None, *Role])
def test_each_operation_asks_for_its_right(client: FlaskClient, services: Services, role: Role | None) -> None:
    viewer = token_of(services, Role.VIEWER)
    found = routes(client, viewer)
    snake = {operation.replace("_", ""): right for operation, right in OPERATIONS.items()}
    assert {operation.lower() for _, _, operation in found} == set(snake), "an operation that no table row allows"
    if role is None:
        headers: dict[str, str] = {}
    else:
        headers = viewer if role is Role.VIEWER else token_of(services, role)
    for method, path, operation in found:
        body = {} if method in ("POST", "PUT", "PATCH") else None
        answer = client.open(filled(path), method=method, headers=headers, json=body)
        if role is None:
            problem_of(answer, 401, "invalid_token")
        elif snake[operation.lower()] in RIGHTS[role]:
            assert answer.status_code not in (401, 403), (operation, answer.text)
        else:
            problem_of(answer, 403, "not_allowed")


def test_a_tenants_key_opens_nothing_here_and_a_token_nothing_there(
    client: FlaskClient, services: Services, admin: dict[str, str]
) -> None:
    services.accounts.create_tenant("acme", Tier.VIP, actor="test")
    key = services.accounts.create_key("acme", actor="test").key
    problem_of(client.get(f"{BASE}/tenants", headers=bearer(key)), 401, "invalid_token")
    assert client.get("/v1/models", headers=admin).status_code == 401


def test_a_revoked_token_opens_nothing(client: FlaskClient, services: Services, admin: dict[str, str]) -> None:
    (made,) = services.user_tokens.list()
    assert client.get(f"{BASE}/queues", headers=admin).status_code == 200
    UserTokens(services.store).revoke(made.id, actor="test")
    problem_of(client.get(f"{BASE}/queues", headers=admin), 401, "invalid_token")
    assert services.user_tokens.list()[0].revoked_ms is not None


def test_a_token_is_nowhere_in_the_record(services: Services, admin: dict[str, str]) -> None:
    secret = admin["Authorization"].removeprefix("Bearer ")
    with services.store.session() as session:
        dump = "\n".join(session.connection().connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert services.user_tokens.list()[0].prefix in dump
    assert secret not in dump


def test_tenants_and_keys(client: FlaskClient, services: Services, admin: dict[str, str]) -> None:
    sent = {"name": "acme", "tier": "standard", "requests_per_minute": 60, "max_queued": 5}
    made = client.post(f"{BASE}/tenants", headers=admin, json=sent)
    assert made.status_code == 201, made.text
    tenant = made.get_json()
    assert client.get(made.headers["Location"], headers=admin).get_json() == tenant
    assert {name: tenant[name] for name in sent} == sent
    changed = client.patch(f"{BASE}/tenants/acme", headers=admin, json={"requests_per_minute": None, "tier": "vip"})
    assert changed.status_code == 200, changed.text
    assert (changed.get_json()["requests_per_minute"], changed.get_json()["max_queued"]) == (None, 5)
    assert services.accounts.get_tenant("acme").tier is Tier.VIP
    assert [one["name"] for one in client.get(f"{BASE}/tenants", headers=admin).get_json()["data"]] == ["acme"]
    key = client.post(f"{BASE}/tenants/acme/keys", headers=admin).get_json()
    assert client.get("/v1/models", headers=bearer(key["key"])).status_code == 200
    (listed,) = client.get(f"{BASE}/tenants/acme/keys", headers=admin).get_json()["data"]
    assert (listed["id"], listed["revoked_ms"]) == (key["id"], None)
    assert "key" not in listed
    revoked = client.post(f"{BASE}/keys/{key['id']}/revoke", headers=admin).get_json()
    assert revoked["revoked_ms"] is not None
    assert client.get("/v1/models", headers=bearer(key["key"])).status_code == 401
    told = client.get(f"{BASE}/audit", headers=admin).get_json()["data"]
    assert [(one["actor"], one["action"]) for one in told[:4]] == [
        ("user:the-admin", action) for action in ("key.revoke", "key.create", "tenant.update", "tenant.create")
    ]


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        ({"name": "b", "tier": "gold"}, "invalid_value", "tier"),
        ({"name": "b", "tier": "vip", "weight": "7"}, "invalid_value", "weight"),
        ({"name": "b", "tier": "vip", "weight": 0}, "invalid_value", "weight"),
        ({"name": "b", "tier": "vip", "id": "ten_1"}, "unknown_field", "id"),
        ({"name": "b\u0000", "tier": "vip"}, "invalid_value", "name"),
        ({"name": "b", "tier": "vip", "contracted_percent": 101}, "invalid_value", "contracted_percent"),
    ],
)
def test_what_the_record_does_not_take_is_told_by_its_field(
    client: FlaskClient, services: Services, admin: dict[str, str], sent: dict[str, Any], code: str, field: str
) -> None:
    answer = client.post(f"{BASE}/tenants", headers=admin, json=sent)
    assert problem_of(answer, 400, code)["field"] == field
    assert services.accounts.list_tenants() == []


def test_a_taken_name_is_a_conflict_and_an_unknown_tenant_is_not_found(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    sent = {"name": "acme", "tier": "vip"}
    assert client.post(f"{BASE}/tenants", headers=admin, json=sent).status_code == 201
    problem_of(client.post(f"{BASE}/tenants", headers=admin, json=sent), 409, "conflict")
    problem_of(client.get(f"{BASE}/tenants/nobody", headers=admin), 404, "not_found")
    problem_of(client.get(f"{BASE}/nothing", headers=admin), 404, "not_found")
    problem_of(client.put(f"{BASE}/tenants", headers=admin, json={}), 405, "method_not_allowed")


def test_a_body_that_is_no_json_is_a_problem(client: FlaskClient, admin: dict[str, str]) -> None:
    json_type = {"Content-Type": "application/json"}
    problem_of(client.post(f"{BASE}/tenants", headers=admin | json_type, data=b"{"), 400, "invalid_json")
    problem_of(client.post(f"{BASE}/tenants", headers=admin, data=b"{}"), 415, "unsupported_media_type")


def test_what_others_have_taken_is_a_conflict(client: FlaskClient, services: Services, admin: dict[str, str]) -> None:
    services.accounts.create_tenant("acme", Tier.VIP, actor="test", contracted_percent=60)
    asked = {"name": "b", "tier": "vip", "contracted_percent": 41}
    refused = problem_of(client.post(f"{BASE}/tenants", headers=admin, json=asked), 409, "conflict")
    assert refused["field"] == "contracted_percent"
    # For good its cap is in the record.
    problem_of(client.put(f"{BASE}/limits/t:acme", headers=admin, json={"most": 1}), 409, "conflict")
    assert client.put(f"{BASE}/limits/t:acme", headers=admin, json={"most": 1.0, "for_s": 60.0}).status_code == 200


def test_what_an_address_does_not_take_is_told_with_what_it_does(client: FlaskClient, admin: dict[str, str]) -> None:
    for path, allowed in (
        ("tenants", {"GET", "POST", "HEAD", "OPTIONS"}),
        ("dead-letters/x", {"DELETE", "OPTIONS"}),
        ("dead-letters/x/replay", {"POST", "OPTIONS"}),
    ):
        refused = client.open(f"{BASE}/{path}", method="TRACE", headers=admin)
        problem_of(refused, 405, "method_not_allowed")
        assert set(refused.headers["Allow"].split(", ")) == allowed


def test_limits_are_set_listed_and_lifted(client: FlaskClient, services: Services) -> None:
    operator = token_of(services, Role.OPERATOR)
    made = client.put(f"{BASE}/limits/l:basic.light", headers=operator, json={"most": 0, "for_s": 60})
    assert made.status_code == 200, made.text
    assert (made.get_json()["lane"], made.get_json()["most"]) == ("basic.light", 0)
    assert client.get(f"{BASE}/limits", headers=operator).get_json()["data"] == [made.get_json()]
    assert client.delete(f"{BASE}/limits/l:basic.light", headers=operator).status_code == 204
    problem_of(client.delete(f"{BASE}/limits/l:basic.light", headers=operator), 404, "not_found")
    # A name that no limit can have is an address that is not there.
    problem_of(client.put(f"{BASE}/limits/x:y", headers=operator, json={"most": 1}), 404, "not_found")
    problem_of(client.delete(f"{BASE}/limits/x:y", headers=operator), 404, "not_found")
    wrong = client.put(f"{BASE}/limits/l:basic.light", headers=operator, json={"most": -1})
    assert problem_of(wrong, 400, "invalid_value")["field"] == "most"


def test_jobs_are_seen_without_what_was_asked_moved_and_taken_back(client: FlaskClient, services: Services) -> None:
    operator = token_of(services, Role.OPERATOR)
    services.accounts.create_tenant("acme", Tier.STANDARD, actor="test")
    key = services.accounts.create_key("acme", actor="test").key
    job_id = client.post("/v1/jobs", json={"body": CHAT}, headers=bearer(key)).get_json()["id"]
    page = client.get(f"{BASE}/jobs?tenant=acme&limit=1", headers=operator)
    assert [job["id"] for job in page.get_json()["data"]] == [job_id]
    assert "my secret question" not in page.text
    moved = client.post(f"{BASE}/jobs/{job_id}/rerank", headers=operator, json={"priority": 3})
    assert (moved.status_code, moved.get_json()["priority"]) == (200, 3)
    wrong = client.post(f"{BASE}/jobs/{job_id}/rerank", headers=operator, json={"priority": 0})
    assert problem_of(wrong, 400, "invalid_value")["field"] == "priority"
    depth = {lane["lane"]: lane["depth"] for lane in client.get(f"{BASE}/queues", headers=operator).get_json()["data"]}
    assert depth["standard.light"] == 1
    gone = client.post(f"{BASE}/jobs/{job_id}/cancel", headers=operator)
    assert gone.get_json()["status"] == "cancelled"
    problem_of(client.post(f"{BASE}/jobs/{job_id}/rerank", headers=operator, json={"priority": 4}), 409, "conflict")
    problem_of(client.get(f"{BASE}/jobs/job_1", headers=operator), 404, "not_found")


def test_dead_letters_are_listed_replayed_and_discarded(client: FlaskClient, services: Services) -> None:
    operator = token_of(services, Role.OPERATOR)
    services.accounts.create_tenant("acme", Tier.VIP, actor="test")
    key = services.accounts.create_key("acme", actor="test").key
    job_id = client.post("/v1/jobs", json={"body": CHAT}, headers=bearer(key)).get_json()["id"]
    services.accounts.get_tenant("acme")

    def die() -> None:
        found = services.scripts.dispatch(lease_ms=1_000, holder="test", places=[("vip.light", MODEL)])
        services.scripts.settle(tag=found.tag, fence=found.fence, outcome="dead")  # type: ignore[union-attr]
        services.attempts.begin(job_id, found.fence, "w")  # type: ignore[union-attr]
        error = {"status": 500, "code": "engine_failed", "message": "it died", "param": None}
        services.attempts.fail(job_id, found.fence, error)  # type: ignore[union-attr]

    die()
    (letter,) = client.get(f"{BASE}/dead-letters", headers=operator).get_json()["data"]
    assert (letter["task"], letter["lane"], letter["why"]) == (job_id, "vip.light", "engine_failed: it died")
    assert client.post(f"{BASE}/dead-letters/{job_id}/replay", headers=operator).status_code == 204
    assert client.get(f"{BASE}/dead-letters", headers=operator).get_json()["data"] == []
    assert client.get(f"{BASE}/jobs/{job_id}", headers=operator).get_json()["status"] == "queued"
    die()
    assert client.delete(f"{BASE}/dead-letters/{job_id}", headers=operator).status_code == 204
    problem_of(client.delete(f"{BASE}/dead-letters/{job_id}", headers=operator), 404, "not_found")


def test_models_and_replicas_are_listed(client: FlaskClient, services: Services) -> None:
    viewer = token_of(services, Role.VIEWER)
    (model,) = client.get(f"{BASE}/models", headers=viewer).get_json()["data"]
    assert (model["name"], model["weight_class"], model["enabled"]) == (MODEL, "light", True)
    assert client.get(f"{BASE}/replicas", headers=viewer).get_json()["data"] == []


def test_the_page_has_every_route(client: FlaskClient, admin: dict[str, str]) -> None:
    page = (ROOT / "docs/design/admin-api.md").read_text("utf-8")
    assert [f"{method} {path}" for method, path, _ in routes(client, admin) if f"`{method} {path}`" not in page] == []

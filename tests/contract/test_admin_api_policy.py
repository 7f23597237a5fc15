"""Do programs read, check, change and take back the policy as the commands do, each change with its audit row?"""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.broker.replicas import Replica, ReplicaState
from qosqueue.policy.terms import TaskType, Tier
from qosqueue.service.policy_file import parse
from qosqueue.store.records import Role
from qosqueue.wiring import Services
from tests.support.admin_api import (
    BASE,
    MODEL,
    admin_fixture,  # noqa: F401
    client_fixture,  # noqa: F401
    problem_of,
    services_fixture,  # noqa: F401
    token_of,
)

FILE = '[tenants.acme]\ntier = "standard"\nmax_queued = 7\n'
ENTRY = '[models.{}]\nengine = "{}"\nmemory_bytes = 1000\ncontext_tokens = 512\nslots = {}\n'
Headers = dict[str, str]


@pytest.fixture
def acme(services: Services) -> str:
    return services.accounts.create_tenant("acme", Tier.VIP, actor="test").id


def document(schema: str = "schema = 1\n", rest: str = FILE) -> dict[str, str]:
    return {"toml": schema + rest}


def actions(services: Services) -> list[tuple[str, str]]:
    return [(entry.actor, entry.action) for entry in services.audit.list() if entry.actor.startswith("user:")]


def test_the_policy_is_read_checked_applied_and_taken_back(
    client: FlaskClient, services: Services, admin: Headers, acme: str
) -> None:
    now = client.get(f"{BASE}/policy", headers=admin).get_json()
    assert now["document"]["tenants"]["acme"]["tier"] == "vip"
    checked = client.post(f"{BASE}/policy/validate", headers=admin, json=document()).get_json()
    assert (checked["valid"], checked["faults"]) == (True, [])
    changed = {each["key"]: (each["before"], each["after"]) for each in checked["differences"]}
    assert changed["tenants.acme.tier"] == ("vip", "standard")
    assert services.accounts.get_tenant("acme").tier is Tier.VIP, "checking changes nothing"
    applied = client.put(f"{BASE}/policy", headers=admin, json=document() | {"why": "from git"})
    assert applied.status_code == 200, applied.text
    assert applied.get_json()["differences"] == checked["differences"]
    assert (services.accounts.get_tenant("acme").tier, services.accounts.get_tenant("acme").max_queued) == (
        "standard",
        7,
    )
    versions = client.get(f"{BASE}/policy/versions", headers=admin).get_json()["data"]
    newest = versions[0]
    assert (newest["actor"], newest["why"], newest["source"]) == ("user:the-admin", "from git", "file")
    assert newest["number"] == applied.get_json()["version"]
    shown = client.get(f"{BASE}/policy/versions/{newest['number']}", headers=admin).get_json()
    assert shown["differences"] == checked["differences"]
    before = newest["number"] - 1
    two = client.get(f"{BASE}/policy/diff?before={before}&after={newest['number']}", headers=admin).get_json()["data"]
    assert two == checked["differences"]
    assert client.get(f"{BASE}/policy/diff?before={newest['number']}", headers=admin).get_json()["data"] == []
    back = client.post(f"{BASE}/policy/versions/{before}/rollback", headers=admin, json={"why": "a mistake"})
    assert back.status_code == 200, back.text
    assert services.accounts.get_tenant("acme").tier is Tier.VIP
    assert services.policies.versions.list(1)[0].why == f"back to version {before}: a mistake"
    old = client.get(f"{BASE}/policy?version={newest['number']}", headers=admin).get_json()
    assert old["document"]["tenants"]["acme"]["tier"] == "standard"
    assert "max_queued = 7" in old["toml"]
    assert actions(services) == [("user:the-admin", "tenant.update")] * 2


def test_a_file_that_cannot_hold_is_told_by_its_keys_and_changes_nothing(
    client: FlaskClient, services: Services, admin: Headers, acme: str
) -> None:
    wrong = document(rest='[tenants.acme]\ntier = "gold"\nrank = 1\n')
    checked = client.post(f"{BASE}/policy/validate", headers=admin, json=wrong).get_json()
    assert (checked["valid"], checked["differences"]) == (False, [])
    assert {fault["key"] for fault in checked["faults"]} >= {"tenants.acme.tier", "tenants.acme.rank"}
    told = problem_of(client.put(f"{BASE}/policy", headers=admin, json=wrong), 400, "invalid_value")
    assert told["field"] == checked["faults"][0]["key"]
    assert "tenants.acme.rank" in told["detail"]
    assert services.accounts.get_tenant("acme").tier is Tier.VIP


def test_engines_are_left_to_those_who_know_them(client: FlaskClient, services: Services, admin: Headers) -> None:
    for model, engine in (("new", "simulated"), (MODEL, "llama-cpp")):
        answer = client.put(f"{BASE}/policy", headers=admin, json=document(rest=ENTRY.format(model, engine, 4)))
        assert f"models.{model}" in problem_of(answer, 409, "conflict")["detail"]
    assert [(each.name, each.engine) for each in services.catalog.list_models()] == [(MODEL, "simulated")]
    answer = client.put(f"{BASE}/policy", headers=admin, json=document(rest=ENTRY.format(MODEL, "simulated", 2)))
    assert answer.status_code == 200, answer.text
    assert services.catalog.get_model(MODEL).slots == 2


def test_a_rollback_leaves_engines_alone_too(client: FlaskClient, services: Services, admin: Headers) -> None:
    policies = services.policies
    policies.apply(parse(f"schema = 1\n{ENTRY.format(MODEL, 'simulated', 4)}"), actor="test", why="as it was")
    before = policies.versions.list(1)[0].number
    policies.apply(parse(f"schema = 1\n{ENTRY.format(MODEL, 'simulated', 2)}"), actor="test", why="other slots")
    path = f"{BASE}/policy/versions/{before}/rollback"
    assert client.post(path, headers=admin, json={}).status_code == 200
    assert services.catalog.get_model(MODEL).slots == 4
    policies.apply(parse(f"schema = 1\n{ENTRY.format(MODEL, 'llama-cpp', 4)}"), actor="test", why="another engine")
    assert f"models.{MODEL}" in problem_of(client.post(path, headers=admin, json={}), 409, "conflict")["detail"]
    assert services.catalog.get_model(MODEL).engine == "llama-cpp"


def test_a_version_that_is_not_there(client: FlaskClient, admin: Headers, acme: str) -> None:
    for path in ("versions/99", "diff?before=99", "diff?before=1&after=99"):
        problem_of(client.get(f"{BASE}/policy/{path}", headers=admin), 404, "not_found")
    problem_of(client.get(f"{BASE}/policy?version=99", headers=admin), 404, "not_found")
    problem_of(client.post(f"{BASE}/policy/versions/99/rollback", headers=admin, json={}), 404, "not_found")
    for number in ("0", "x", str(2**63)):
        problem_of(client.get(f"{BASE}/policy/versions/{number}", headers=admin), 400, "invalid_value")


def test_overrides_are_set_listed_and_removed(
    client: FlaskClient, services: Services, admin: Headers, acme: str
) -> None:
    about = {"tenant": acme, "model": MODEL, "task_type": "batch"}
    sent = about | {"max_queued": 3.0, "road": ["retry"], "why": "a promise"}
    made = client.put(f"{BASE}/overrides", headers=admin, json=sent)
    assert made.status_code == 200, made.text
    assert services.policies.versions.list(1)[0].why == "a promise"
    (listed,) = client.get(f"{BASE}/overrides", headers=admin).get_json()["data"]
    assert {name: listed[name] for name in ("tenant", "model", "task_type", "max_queued", "road", "source")} == {
        **about,
        "tenant": "acme",
        "max_queued": 3,
        "road": ["retry"],
        "source": "page",
    }
    client.put(f"{BASE}/overrides", headers=admin, json=about | {"max_queued": None})
    (listed,) = client.get(f"{BASE}/overrides", headers=admin).get_json()["data"]
    assert (listed["max_queued"], listed["road"]) == (None, ["retry"]), "what is not sent stays"
    where = "tenant=acme&model=tiny&task_type=batch"
    problem_of(client.delete(f"{BASE}/overrides?tenant=acme&model=tiny", headers=admin), 404, "not_found")
    assert client.delete(f"{BASE}/overrides?{where}", headers=admin).status_code == 204
    problem_of(client.delete(f"{BASE}/overrides?{where}", headers=admin), 404, "not_found")
    assert client.get(f"{BASE}/overrides", headers=admin).get_json()["data"] == []
    told = actions(services)
    assert {action for _, action in told} == {"override.set", "override.clear"}


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ({"tenant": "acme", "max_queued": 1}, 400, "overrides[tenant=acme]"),
        ({"model": MODEL}, 400, "body"),
        ({"model": "nobody", "max_queued": 1}, 400, "overrides[model=nobody].model"),
        ({"model": MODEL, "max_queued": -1}, 400, f"overrides[model={MODEL}].max_queued"),
        ({"model": MODEL, "priority": 0}, 400, "priority"),
        ({"model": MODEL, "task_type": "later", "max_queued": 1}, 400, "task_type"),
        ({"tenant": "nobody", "model": MODEL, "max_queued": 1}, 404, None),
    ],
)
def test_an_override_that_cannot_hold_is_told_by_its_field(
    client: FlaskClient, admin: Headers, acme: str, sent: dict[str, Any], status: int, field: str | None
) -> None:
    answer = client.put(f"{BASE}/overrides", headers=admin, json=sent)
    assert (answer.status_code, answer.get_json()["field"]) == (status, field), answer.text
    assert client.get(f"{BASE}/overrides", headers=admin).get_json()["data"] == []


def test_learned_budgets_are_bounded(client: FlaskClient, services: Services, admin: Headers, acme: str) -> None:
    about = {"tenant": "acme", "model": MODEL, "task_type": "async"}
    made = client.put(f"{BASE}/scenarios/bounds", headers=admin, json=about | {"lower_ms": 100, "upper_ms": 900})
    assert made.status_code == 200, made.text
    (listed,) = client.get(f"{BASE}/scenarios", headers=admin).get_json()["data"]
    assert (listed["tenant"], listed["lower_ms"], listed["upper_ms"], listed["budget_ms"]) == ("acme", 100, 900, None)
    tenant = services.accounts.get_tenant("acme")
    assert services.agreements.default_budget_ms(tenant, MODEL, TaskType.ASYNC) == 900
    wrong = client.put(f"{BASE}/scenarios/bounds", headers=admin, json=about | {"lower_ms": 901})
    assert str(problem_of(wrong, 400, "invalid_value")["field"]).endswith(".lower_ms")
    client.put(f"{BASE}/scenarios/bounds", headers=admin, json=about | {"lower_ms": None, "upper_ms": None})
    bounds = [(each["lower_ms"], each["upper_ms"]) for each in _scenarios(client, admin)]
    assert bounds == [(None, None)]


def test_a_tenant_that_is_made_while_a_list_is_read_has_its_name(
    client: FlaskClient, services: Services, admin: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = services.agreements.scenarios

    def meanwhile() -> Any:
        services.accounts.create_tenant("late", Tier.VIP, actor="test")
        about = {"tenant": "late", "model": MODEL, "task_type": "batch"}
        services.policies.bound_scenario(about, {"lower_ms": 1}, actor="test", why="")
        return read()

    monkeypatch.setattr(services.agreements, "scenarios", meanwhile)
    assert [each["tenant"] for each in _scenarios(client, admin)] == ["late"]


def _scenarios(client: FlaskClient, admin: Headers) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{BASE}/scenarios", headers=admin).get_json()["data"]
    return found


def test_breakers_are_listed_tripped_and_reset(client: FlaskClient, services: Services) -> None:
    operator = token_of(services, Role.OPERATOR)
    (one,) = client.get(f"{BASE}/breakers", headers=operator).get_json()["data"]
    assert (one["name"], one["state"]) == (f"m:{MODEL}", "closed")
    opened = client.post(f"{BASE}/breakers/m:{MODEL}/trip", headers=operator, json={"for_s": 60.0})
    assert opened.status_code == 200, opened.text
    assert (opened.get_json()["state"], opened.get_json()["until_ms"] is not None) == ("open", True)
    assert client.get(f"{BASE}/breakers", headers=operator).get_json()["data"] == [opened.get_json()]
    closed = client.post(f"{BASE}/breakers/m:{MODEL}/reset", headers=operator).get_json()
    assert closed["state"] == "closed"
    services.replicas.register(Replica("w1", MODEL, 1, 0, None, ReplicaState.READY, 1))
    replica = client.post(f"{BASE}/breakers/r:2:w1:{MODEL}/trip", headers=operator, json={})
    assert (replica.get_json()["worker"], replica.get_json()["until_ms"]) == ("w1", None)
    problem_of(client.post(f"{BASE}/breakers/m:nobody/trip", headers=operator, json={}), 404, "not_found")
    problem_of(client.post(f"{BASE}/breakers/r:2:w2:{MODEL}/trip", headers=operator, json={}), 404, "not_found")
    problem_of(client.post(f"{BASE}/breakers/r:2:w1:other/trip", headers=operator, json={}), 404, "not_found")
    for name in ("x", f"r:{'9' * 5_000}:w1:{MODEL}", f"r:\u0662:w1:{MODEL}"):
        problem_of(client.post(f"{BASE}/breakers/{name}/reset", headers=operator), 400, "invalid_value")
    wrong = client.post(f"{BASE}/breakers/m:{MODEL}/trip", headers=operator, json={"for_s": 0})
    assert problem_of(wrong, 400, "invalid_value")["field"] == "for_s"
    told = [action for _, action in actions(services)]
    assert told == ["breaker.trip", "breaker.reset", "breaker.trip"]


def test_a_lane_is_purged_a_bounded_number_at_a_time(
    client: FlaskClient, services: Services, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = token_of(services, Role.OPERATOR)
    key = {"Authorization": f"Bearer {services.accounts.create_key('acme', actor='test').key}"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    jobs = [client.post("/v1/jobs", json={"body": body}, headers=key).get_json()["id"] for _ in range(3)]
    monkeypatch.setattr("qosqueue.service.purges.AT_ONCE", 1)
    monkeypatch.setattr("qosqueue_web.admin_api.queues.MOST_SLICES", 2)
    first = client.post(f"{BASE}/queues/vip.light/purge", headers=operator, json={"why": "a flood"})
    assert first.get_json() == {"lane": "vip.light", "ended": 2, "left": 1}
    last = client.post(f"{BASE}/queues/vip.light/purge", headers=operator, json={"why": "a flood"})
    assert last.get_json() == {"lane": "vip.light", "ended": 1, "left": 0}
    for job in jobs:
        told = client.get(f"/v1/jobs/{job}", headers=key).get_json()
        assert (told["status"], told["error"]["code"]) == ("cancelled", "purged")
        assert "the-operator" not in str(told)
        seen = client.get(f"{BASE}/jobs/{job}", headers=operator).get_json()
        assert seen["error"]["by"] == "user:the-operator"
    refused = client.post(f"{BASE}/queues/system/purge", headers=operator, json={})
    assert problem_of(refused, 400, "invalid_value")["field"] == "lane"


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + "9" * 5_000, "schema = 0x" + "f" * 5_000])
def test_a_file_that_cannot_be_read_is_refused(client: FlaskClient, admin: Headers, text: str) -> None:
    checked = client.post(f"{BASE}/policy/validate", headers=admin, json={"toml": text})
    assert (checked.status_code, checked.get_json()["valid"]) == (200, False)
    assert [fault["key"] for fault in checked.get_json()["faults"]] == ["policy.toml"]
    applied = client.put(f"{BASE}/policy", headers=admin, json={"toml": text})
    assert problem_of(applied, 400, "invalid_value")["field"] == "policy.toml"

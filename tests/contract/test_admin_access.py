"""Who may open and change what? Every page × stranger, viewer, operator, admin; and no change without its token."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.terms import Tier
from qosqueue.store.records import Role
from qosqueue_web.admin import access
from tests.support.admin_site import Site, post, site_fixture  # noqa: F401

STRANGER = None
READERS = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
RUNNERS = (Role.OPERATOR, Role.ADMIN)
WRITERS = (Role.ADMIN,)
EVERYBODY = (STRANGER, *READERS)

# Endpoint, method -> who may. A page without an entry here fails the first test.
MAY: dict[tuple[str, str], tuple[Role | None, ...]] = {
    ("admin.static", "GET"): EVERYBODY,
    ("admin.login", "GET"): EVERYBODY,
    ("admin.try_login", "POST"): EVERYBODY,
    ("admin.logout", "POST"): READERS,
    ("admin.home", "GET"): READERS,
    ("admin.queues", "GET"): READERS,
    ("admin.queues_live", "GET"): READERS,
    ("admin.tenants", "GET"): READERS,
    ("admin.tenant", "GET"): READERS,
    ("admin.tenant_jobs", "GET"): READERS,
    ("admin.new_tenant", "GET"): WRITERS,
    ("admin.create_tenant", "POST"): WRITERS,
    ("admin.update_tenant", "POST"): WRITERS,
    ("admin.create_key", "POST"): WRITERS,
    ("admin.revoke_key", "POST"): WRITERS,
    ("admin.purge", "GET"): RUNNERS,
    ("admin.purge_lane", "POST"): RUNNERS,
    ("admin.limits", "GET"): READERS,
    ("admin.set_limit", "POST"): RUNNERS,
    ("admin.lift_limit", "POST"): RUNNERS,
    ("admin.trip_breaker", "POST"): RUNNERS,
    ("admin.reset_breaker", "POST"): RUNNERS,
    ("admin.policy", "GET"): READERS,
    ("admin.policy_diff", "GET"): READERS,
    ("admin.policy_version", "GET"): READERS,
    ("admin.rollback_policy", "POST"): WRITERS,
    ("admin.overrides", "GET"): READERS,
    ("admin.set_override", "POST"): WRITERS,
    ("admin.remove_override", "POST"): WRITERS,
    ("admin.budgets", "GET"): READERS,
    ("admin.bound_budget", "POST"): WRITERS,
}


# What a form sends that is to be taken, in the order of the routes.
SENT: dict[str, dict[str, str]] = {
    "admin.create_tenant": {"tier": "basic"},
    "admin.update_tenant": {"name": "acme", "tier": "vip", "weight": "7", "enabled": "on"},
    "admin.purge_lane": {"lane": "vip.light"},
    "admin.set_limit": {"name": "l:basic.light", "most": "0"},
    "admin.lift_limit": {"name": "l:basic.light"},
    "admin.trip_breaker": {"name": "m:tiny"},
    "admin.reset_breaker": {"name": "m:tiny"},
    "admin.rollback_policy": {"why": "a test"},
    "admin.set_override": {"model": "tiny", "max_queued": "3"},
    "admin.remove_override": {"model": "tiny"},
    "admin.bound_budget": {"tenant": "acme", "model": "tiny", "task_type": "async", "lower_ms": "10"},
}


def routes(site: Site) -> dict[tuple[str, str], str]:
    """Path pattern of each endpoint and method under /admin."""
    return {
        (rule.endpoint, method): rule.rule
        for rule in site.app.url_map.iter_rules()
        if rule.rule.startswith("/admin")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def filled(pattern: str, site: Site) -> str:
    """The pattern with the ids of a tenant and a key that exist."""
    tenant = site.accounts.list_tenants()[0]
    key = site.accounts.list_keys(tenant.id)[0]
    path = pattern.replace("<tenant_id>", tenant.id).replace("<key_id>", key.id)
    path = path.replace("<path:filename>", "admin.css").replace("<lane>", "vip.light").replace("<int:number>", "1")
    return f"{path}?before=1" if path.endswith("/diff") else path


@pytest.fixture
def furnished(site: Site) -> Site:
    """A site with one tenant, one key and one model."""
    site.services.catalog.add_model("tiny", "simulated", actor="test", memory_bytes=1, context_tokens=9, slots=1)
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    site.accounts.create_key(tenant.id, actor="system:test")
    return site


def state(site: Site) -> tuple[object, ...]:
    """All that a form could have changed."""
    services = site.services
    operated = services.limits.list(), services.breakers.list(), services.policies.current()
    return site.accounts.list_tenants(), site.accounts.list_keys(), *operated


def test_every_page_is_in_the_matrix(site: Site) -> None:
    assert set(routes(site)) == set(MAY)


@pytest.mark.parametrize("role", EVERYBODY)
def test_the_matrix_holds(furnished: Site, role: Role | None) -> None:
    for (endpoint, method), pattern in routes(furnished).items():
        client: FlaskClient = furnished.visitor(role)
        path = filled(pattern, furnished)
        if method == "GET":
            answer = client.get(path)
        else:
            sent = SENT.get(endpoint, {})
            answer = post(client, path, **({"name": f"of-{role}"} | sent))
        answer.close()
        if role in MAY[endpoint, method]:
            expected = (401,) if endpoint == "admin.try_login" else (200, 302)
            assert answer.status_code in expected, (endpoint, answer.status_code)
            assert endpoint == "admin.logout" or not answer.headers.get("Location", "").startswith("/admin/login")
        elif role is STRANGER:
            to_login = answer.status_code == 302 and answer.headers["Location"].startswith("/admin/login")
            assert to_login, (endpoint, answer.status_code)
        else:
            assert answer.status_code == 403, (endpoint, answer.status_code)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER, STRANGER])
def test_who_may_not_change_changes_nothing(furnished: Site, role: Role | None) -> None:
    before = state(furnished)
    client = furnished.visitor(role)
    for (endpoint, method), pattern in routes(furnished).items():
        if (
            method == "POST"
            and endpoint not in ("admin.logout", "admin.try_login")
            and role not in MAY[endpoint, method]
        ):
            sent = {"name": "other", "tier": "basic", "weight": "1"} | SENT.get(endpoint, {})
            post(client, filled(pattern, furnished), **sent)
    assert state(furnished) == before


@pytest.mark.parametrize("token", [None, "", "not-a-token"])
def test_nothing_is_changed_without_the_token(furnished: Site, token: str | None) -> None:
    before = state(furnished)
    client = furnished.visitor(Role.ADMIN)
    for (endpoint, method), pattern in routes(furnished).items():
        if method == "GET":
            continue
        sent = {"name": "other", "tier": "basic", "weight": "1"} | SENT.get(endpoint, {})
        sent |= {} if token is None else {"csrf_token": token}
        answer = client.post(filled(pattern, furnished), data=sent)
        assert answer.status_code == 403, (endpoint, answer.status_code)
    assert state(furnished) == before
    assert client.get("/admin/queues").status_code == 200, "the forged logout must not have worked either"


def test_a_page_without_a_rule_opens_for_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.visitor(Role.ADMIN)
    monkeypatch.delitem(access.PAGES, "admin.tenants")
    assert client.get("/admin/tenants").status_code == 403


def test_a_polled_fragment_sends_the_whole_page_to_the_login(site: Site) -> None:
    answer = site.visitor(STRANGER).get("/admin/queues/live", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/admin/login")

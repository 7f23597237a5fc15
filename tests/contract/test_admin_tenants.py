"""Does the record hold what the forms of tenants say, and does a page show what the record holds, as text?"""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from qosqueue.policy.terms import Tier
from qosqueue.service.policies import Policies
from qosqueue.service.policy_file import parse
from qosqueue.store.records import Role
from qosqueue.store.tables import KeyRow, TenantRow
from tests.support.admin_site import Site, post, site_fixture  # noqa: F401
from tests.support.jobs import failed_job

FORM = {
    "name": "acme",
    "tier": "vip",
    "weight": "12",
    "online_target_ms": "250",
    "success_target_percent": "99",
    "requests_per_minute": "600",
    "tokens_per_minute": "",
    "organisation": "",
    "contracted_percent": "",
    "max_running": "",
    "tokens_per_day": "",
    "gpu_seconds_per_day": "",
    "max_in_flight": "",
    "max_queued": "",
    "high_target_ms": "",
    "medium_target_ms": "",
    "low_target_ms": "",
    "error_budget_per_10k": "",
    "on_late": "",
    "road": "",
    "why": "",
    "enabled": "on",
}
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"


@pytest.fixture
def client(site: Site) -> FlaskClient:
    return site.visitor(Role.ADMIN)


def row_of(site: Site, name: str) -> TenantRow:
    with site.store.session() as sql:
        return sql.scalars(select(TenantRow).where(TenantRow.name == name)).one()


def test_a_created_tenant_is_in_the_record(site: Site, client: FlaskClient) -> None:
    answer = post(client, "/admin/tenants/new", **FORM)
    row = row_of(site, "acme")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/admin/tenants/{row.id}")
    stored = (row.tier, row.weight, row.online_target_ms, row.success_target_percent, row.requests_per_minute)
    assert (*stored, row.tokens_per_minute, row.enabled) == ("vip", 12, 250, 99, 600, None, True)
    assert [(entry.actor, entry.subject) for entry in site.audit("tenant.create")] == [("user:the-admin", row.id)]
    listed = client.get("/admin/tenants").text
    assert "acme" in listed
    assert "250 ms" in listed


def test_an_edit_is_in_the_record_and_in_the_audit_log(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test", weight=5, tokens_per_minute=900)
    sent = FORM | {"tier": "basic", "weight": "3", "enabled": ""}
    assert post(client, f"/admin/tenants/{tenant.id}", **sent).status_code == 302
    row = row_of(site, "acme")
    assert (row.tier, row.weight, row.tokens_per_minute, row.enabled) == ("basic", 3, None, False)
    entry = site.audit("tenant.update")[0]
    assert entry.actor == "user:the-admin"
    assert entry.before is not None
    assert entry.before["tier"] == "vip"
    assert "disabled" in client.get("/admin/tenants").text


def test_what_a_tenant_is_promised_is_kept_shown_and_taken_away(site: Site, client: FlaskClient) -> None:
    promised = {"organisation": "Acme group", "contracted_percent": "30", "max_running": "0"}
    post(client, "/admin/tenants/new", **(FORM | promised))
    row = row_of(site, "acme")
    assert (row.organisation, row.contracted_percent, row.max_running) == ("Acme group", 30, 0)
    listed, shown = client.get("/admin/tenants").text, client.get(f"/admin/tenants/{row.id}").text
    assert "Acme group" in listed
    assert "30 %" in listed
    assert all(f'name="{name}" value="{value}"' in shown for name, value in promised.items())
    post(client, f"/admin/tenants/{row.id}", **FORM)
    row = row_of(site, "acme")
    assert (row.organisation, row.contracted_percent, row.max_running) == (None, None, None)


def test_limits_and_conduct_are_kept_shown_and_taken_away_with_a_reason(site: Site, client: FlaskClient) -> None:
    limits = {"tokens_per_day": "9000", "max_in_flight": "0", "max_queued": "7", "high_target_ms": "80"}
    conduct = {"on_late": "downgrade", "road": "retry, fallback, reject"}
    post(client, "/admin/tenants/new", **(FORM | limits | conduct | {"why": "a new contract"}))
    row = row_of(site, "acme")
    assert (row.tokens_per_day, row.max_in_flight, row.max_queued, row.high_target_ms) == (9000, 0, 7, 80)
    assert (row.on_late, row.road, row.source) == ("downgrade", ["retry", "fallback", "reject"], "page")
    shown = client.get(f"/admin/tenants/{row.id}").text
    assert all(
        f'name="{name}" value="{value}"' in shown for name, value in (limits | {"road": conduct["road"]}).items()
    )
    assert '<option value="downgrade" selected>' in shown
    assert "policy file" not in shown
    versions = Policies(site.store).versions
    assert [(each.source, each.actor, each.why) for each in versions.list(1)] == [
        ("page", "user:the-admin", "a new contract")
    ]
    unchanged = versions.list(1)
    post(client, f"/admin/tenants/{row.id}", **(FORM | limits | conduct))
    assert versions.list(1) == unchanged, "the form as it was is no change"
    post(client, f"/admin/tenants/{row.id}", **FORM)
    row = row_of(site, "acme")
    assert (row.max_in_flight, row.on_late, row.road) == (None, None, None)


def test_a_tenant_that_comes_from_a_file_says_so(site: Site, client: FlaskClient) -> None:
    file = parse("schema = 1\n[tenants.filed]\ntier = 'vip'\n")
    Policies(site.store).apply(file, actor="cli:anna", why="from git")
    page = f"/admin/tenants/{row_of(site, 'filed').id}"
    assert "This tenant comes from a policy file." in client.get(page).text
    post(client, page, **(FORM | {"name": "filed", "weight": "3"}))
    assert "policy file" not in client.get(page).text


def test_with_its_tier_a_tenant_changes_a_weight_that_was_the_tiers(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    basic = site.accounts.create_tenant("other", Tier.BASIC, actor="system:test")
    post(client, f"/admin/tenants/{tenant.id}", **(FORM | {"tier": "basic", "weight": str(tenant.weight)}))
    assert row_of(site, "acme").weight == basic.weight != tenant.weight


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "Expected 1 to 64 letters"),
        ("name", MARKUP, "Expected 1 to 64 letters"),
        ("name", "taken", "taken"),
        ("tier", "gold", "Expected one of vip, standard, basic"),
        ("weight", "many", "Expected a whole number"),
        ("weight", "0", "from 1 to"),
        ("weight", "-3", "from 1 to"),
        ("online_target_ms", "1.5", "Expected a whole number"),
        ("online_target_ms", "9" * 400, "Expected a whole number"),
        ("success_target_percent", "101", "from 1 to 100"),
        ("requests_per_minute", "١٢", "Expected a whole number"),
        ("tokens_per_minute", "999999999999999", "from 1 to"),
        ("organisation", MARKUP, "Expected 1 to 64 letters"),
        ("contracted_percent", "101", "from 0 to 100"),
        ("contracted_percent", "71", "at most 70 (other tenants&#39; contracts come to 30)"),
        ("max_running", "-1", "from 0 to"),
        ("tokens_per_day", "0", "from 1 to"),
        ("max_queued", "-1", "from 0 to"),
        ("error_budget_per_10k", "10001", "from 0 to 10000"),
        ("low_target_ms", "0", "from 1 to"),
        ("on_late", "never", "Expected one of reject, defer, downgrade"),
        ("road", "retry, wait", "Expected different steps of retry"),
        ("why", "x" * 501, "Expected one line of at most 500 characters"),
    ],
)
@pytest.mark.parametrize("edit", [False, True])
def test_a_bad_value_is_told_at_its_field(
    site: Site, client: FlaskClient, field: str, value: str, said: str, edit: bool
) -> None:
    site.accounts.create_tenant("taken", Tier.BASIC, actor="system:test", contracted_percent=30)
    mine = site.accounts.create_tenant("mine", Tier.BASIC, actor="system:test")
    before = site.accounts.list_tenants()
    answer = post(client, f"/admin/tenants/{mine.id if edit else 'new'}", **(FORM | {field: value}))
    assert answer.status_code == 422
    fault = re.search(rf'id="{field}-fault">(.*?)</p>', answer.text)
    assert fault is not None, answer.text
    assert said in fault[1]
    label, link = (re.search(found, answer.text) for found in (rf'for="{field}">([^<]*)', rf'href="#{field}">([^<]*)'))
    assert label is not None
    assert link is not None
    assert link[1] == label[1].strip(), "the alert names the field as the form does"
    assert MARKUP not in answer.text
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true"[^>]*aria-describedby="{field}-fault ', answer.text)
    if field != "name":
        assert 'value="acme"' in answer.text, "what was typed must not be lost"
    assert site.accounts.list_tenants() == before


def test_fields_that_the_form_does_not_have_are_not_looked_at(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.BASIC, actor="system:test")
    extra = {"id": "ten_" + "0" * 24, "created_ms": "1", "tenant_id": "x", "role": "admin", "priority": "0"}
    post(client, f"/admin/tenants/{tenant.id}", **(FORM | extra))
    changed = asdict(site.accounts.get_tenant("acme"))
    assert (changed["id"], changed["created_ms"]) == (tenant.id, tenant.created_ms)


def test_a_key_is_shown_once_and_works(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    answer = post(client, f"/admin/tenants/{tenant.id}/keys")
    found = re.search(r"qq_[A-Za-z0-9_-]{43}", answer.text)
    assert found is not None
    assert answer.headers["Cache-Control"] == "no-store"
    owner = site.accounts.authenticate(found[0])
    assert owner is not None
    assert owner.id == tenant.id
    again = client.get(f"/admin/tenants/{tenant.id}").text
    assert found[0] not in again
    assert found[0][:11] in again
    assert site.audit("key.create")[0].actor == "user:the-admin"


def test_a_revoked_key_is_refused_and_told(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    made = site.accounts.create_key(tenant.id, actor="system:test")
    assert post(client, f"/admin/tenants/{tenant.id}/keys/{made.id}/revoke").status_code == 302
    assert site.accounts.authenticate(made.key) is None
    assert "revoked" in client.get(f"/admin/tenants/{tenant.id}").text
    assert site.audit("key.revoke")[0].actor == "user:the-admin"


def test_a_key_is_revoked_only_under_its_tenant(site: Site, client: FlaskClient) -> None:
    one = site.accounts.create_tenant("one", Tier.VIP, actor="system:test")
    two = site.accounts.create_tenant("two", Tier.VIP, actor="system:test")
    made = site.accounts.create_key(one.id, actor="system:test")
    assert post(client, f"/admin/tenants/{two.id}/keys/{made.id}/revoke").status_code == 404
    with site.store.session() as sql:
        assert sql.get_one(KeyRow, made.id).revoked_ms is None


@pytest.mark.parametrize("wrong", ["acme", "ten_" + "0" * 24, "%00", "ten_x", MARKUP.replace("/", "")])
def test_an_unknown_tenant_is_a_page_that_says_so(site: Site, client: FlaskClient, wrong: str) -> None:
    site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    for path in (f"/admin/tenants/{wrong}", f"/admin/tenants/{wrong}/jobs"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "<h1>Not found</h1>" in answer.text
        assert "<script>alert" not in answer.text


def test_a_viewer_gets_no_form_that_he_may_not_send(site: Site) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    site.accounts.create_key(tenant.id, actor="system:test")
    viewer = site.visitor(Role.VIEWER)
    html = viewer.get(f"/admin/tenants/{tenant.id}").text + viewer.get("/admin/tenants").text
    assert not [word for word in ("Revoke…", "Revoke this", "Issue a key", ">Save<", "New tenant") if word in html]


def test_markup_in_a_job_is_text(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    site.jobs.found = [failed_job(tenant.id, index, MARKUP) for index in range(50)]
    html = client.get(f"/admin/tenants/{tenant.id}/jobs").text
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;alert(1)") == 100
    assert f"before={site.jobs.found[-1].id}" in html


def test_a_tenant_without_jobs_says_so(site: Site, client: FlaskClient) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    assert "No job here" in client.get(f"/admin/tenants/{tenant.id}/jobs").text

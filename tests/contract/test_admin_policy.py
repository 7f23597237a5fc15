"""Do the pages of policy, overrides and budgets show what the record holds, and change it with who and why?"""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.terms import Tier
from qosqueue.store.records import Role
from tests.support.admin_site import Site, post, site_fixture  # noqa: F401

MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def acme(site: Site) -> Site:
    """A site with a model, and a tenant that was changed once."""
    site.services.catalog.add_model("tiny", "simulated", actor="test", memory_bytes=1, context_tokens=9, slots=1)
    site.accounts.create_tenant("acme", Tier.VIP, actor="test", weight=5)
    site.accounts.update_tenant("acme", actor="user:bob", weight=6, why=f"because {MARKUP}")
    return site


@pytest.fixture
def client(acme: Site) -> FlaskClient:
    return acme.visitor(Role.ADMIN)


def newest(site: Site) -> int:
    number: int = site.services.policies.versions.list(1)[0].number
    return number


def test_the_history_says_who_when_and_why_as_text(acme: Site, client: FlaskClient) -> None:
    page = client.get("/admin/policy").text
    assert "user:bob" in page
    assert "because &lt;script&gt;" in page
    assert MARKUP not in page
    shown = client.get(f"/admin/policy/{newest(acme)}").text
    assert "tenants.acme.weight" in shown
    assert "Roll back to version" not in shown, "it holds already"


def test_two_versions_are_compared(acme: Site, client: FlaskClient) -> None:
    number = newest(acme)
    told = client.get(f"/admin/policy/diff?before={number - 1}&after={number}").text
    assert told.count("<tr>") == 2
    assert "tenants.acme.weight" in told
    assert "Nothing differs." in client.get(f"/admin/policy/diff?before={number}").text
    for path in ("diff", "diff?before=x", "diff?before=99", "99", "0", f"diff?before={2**70}", str(2**70)):
        assert client.get(f"/admin/policy/{path}").status_code == 404, path


def test_a_rollback_asks_for_a_reason_and_makes_a_version(acme: Site, client: FlaskClient) -> None:
    number = newest(acme)
    page = f"/admin/policy/{number - 1}"
    assert "What a rollback would change" in client.get(page).text
    refused = post(client, f"{page}/rollback", page)
    assert refused.status_code == 422
    assert "why-fault" in refused.text
    assert newest(acme) == number
    assert post(client, f"{page}/rollback", page, why="a mistake").status_code == 302
    assert acme.accounts.get_tenant("acme").weight == 5
    last = acme.services.policies.versions.list(1)[0]
    assert (last.number, last.actor, last.why, last.source) == (
        number + 1,
        "user:the-admin",
        f"back to version {number - 1}: a mistake",
        "page",
    )
    assert acme.audit("tenant.update")[-1].actor == "user:the-admin"
    assert f"Version {number - 1} holds again" in client.get("/admin/policy").text


def test_a_rollback_on_the_page_leaves_engines_alone(acme: Site, client: FlaskClient) -> None:
    number = newest(acme)
    policies = acme.services.policies
    other = policies.current()
    other["models"]["tiny"] |= {"engine": "another"}
    policies.apply(other, actor="test", why="another engine")
    page = f"/admin/policy/{number}"
    refused = post(client, f"{page}/rollback", page, why="back")
    assert (refused.status_code, "models.tiny: engine and options are set by" in refused.text) == (422, True)
    assert policies.current()["models"]["tiny"]["engine"] == "another"


def test_a_version_that_cannot_hold_again_says_why(acme: Site, client: FlaskClient) -> None:
    number = newest(acme)
    acme.accounts.update_tenant("acme", actor="test", name="was acme")
    acme.accounts.create_tenant("acme", Tier.BASIC, actor="test")
    page = f"/admin/policy/{number - 1}"
    refused = post(client, f"{page}/rollback", page, why="back")
    assert refused.status_code == 422
    assert "rename it first" in refused.text


def test_an_override_is_set_edited_and_removed(acme: Site, client: FlaskClient) -> None:
    about = {"tenant": "acme", "model": "tiny", "task_type": ""}
    sent = about | {"max_queued": "3", "road": "retry, fallback", "why": "a promise"}
    assert post(client, "/admin/overrides", **sent).status_code == 302
    page = client.get("/admin/overrides?tenant=acme&model=tiny&task_type=").text
    assert "max queued: 3; road: retry, fallback" in page
    assert 'name="max_queued" value="3"' in page
    assert 'name="road" value="retry, fallback"' in page
    post(client, "/admin/overrides", **(about | {"tokens_per_day": "9"}))
    (held,) = acme.services.agreements.overrides()
    assert (held.max_queued, held.tokens_per_day, held.road, held.source) == (None, 9, None, "page")
    refused = post(client, "/admin/overrides/remove", **about, why="w" * 501)
    assert (refused.status_code, "one line of at most 500 characters" in refused.text) == (422, True)
    assert len(acme.services.agreements.overrides()) == 1
    assert post(client, "/admin/overrides/remove", **about).status_code == 302
    assert acme.services.agreements.overrides() == []
    assert post(client, "/admin/overrides/remove", **about).status_code == 404
    actions = [(row.action, row.actor) for name in ("override.set", "override.clear") for row in acme.audit(name)]
    assert actions == [(name, "user:the-admin") for name in ("override.set", "override.set", "override.clear")]


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        ({"tenant": "acme", "max_queued": "3"}, "a model, a task_type or both"),
        ({"model": "tiny"}, "at least one of"),
        ({"model": "tiny", "max_queued": "many"}, "max_queued-fault"),
        ({"model": "tiny", "max_queued": "-1"}, "max_queued-fault"),
        ({"model": "tiny", "road": "retry, pray"}, "road-fault"),
        ({"model": "nobody", "max_queued": "3"}, "model-fault"),
        ({"tenant": MARKUP, "model": "tiny", "max_queued": "3"}, "tenant-fault"),
        ({"model": "tiny", "max_queued": "3", "why": "x" * 501}, "why-fault"),
    ],
)
def test_an_override_that_cannot_hold_is_told_at_its_field(
    acme: Site, client: FlaskClient, sent: dict[str, str], fault: str
) -> None:
    answer = post(client, "/admin/overrides", **sent)
    assert answer.status_code == 422
    assert fault in answer.text
    assert MARKUP not in answer.text
    assert acme.services.agreements.overrides() == []


def test_a_learned_budget_is_bounded(acme: Site, client: FlaskClient) -> None:
    about = {"tenant": "acme", "model": "tiny", "task_type": "async"}
    answer = post(client, "/admin/budgets", **(about | {"lower_ms": "100", "upper_ms": "1500"}))
    assert answer.status_code == 302
    (held,) = acme.services.agreements.scenarios()
    assert (held.lower_ms, held.upper_ms, held.budget_ms) == (100, 1500, None)
    page = client.get("/admin/budgets").text
    assert "100 ms" in page
    assert "1.5 s" in page
    wrong = post(client, "/admin/budgets", **(about | {"lower_ms": "1501", "upper_ms": "1500"}))
    assert (wrong.status_code, "lower_ms-fault" in wrong.text) == (422, True)
    assert post(client, "/admin/budgets", **about).status_code == 302
    assert [(each.lower_ms, each.upper_ms) for each in acme.services.agreements.scenarios()] == [(None, None)]
    assert {row.actor for row in acme.audit("scenario.set")} == {"user:the-admin"}


def test_who_may_only_look_gets_no_forms(acme: Site) -> None:
    viewer = acme.visitor(Role.VIEWER)
    for page in ("policy/1", "overrides", "budgets", "limits"):
        answer = viewer.get(f"/admin/{page}")
        assert answer.status_code == 200
        assert answer.text.count('method="post"') == 1, "only that of logging out"

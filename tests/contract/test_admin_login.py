"""Is the way in safe? Bad tries, unknown users, session ids, logout, cookies, where a login leads."""

from __future__ import annotations

import re

import pytest
import redis
from flask.testing import FlaskClient

from qosqueue.broker.address import connect
from qosqueue.settings import Settings
from qosqueue.store.records import Role
from tests.support.admin_site import PASSWORD, TOKEN, Site, log_in, make_site, post, site_fixture  # noqa: F401
from tests.support.broker import MakeSettings

WRONG = "wrong horse battery"


def session_of(client: FlaskClient) -> str | None:
    with client.session_transaction() as held:
        return held.get("sid")


def test_ten_bad_tries_a_minute_are_answered(site: Site) -> None:
    site.add_user(Role.ADMIN)
    client = site.visitor(None)
    for _ in range(10):
        assert log_in(client, "the-admin", WRONG).status_code == 401
    refused = log_in(client, "the-admin", PASSWORD)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "60"
    assert "Too many wrong tries" in refused.text
    elsewhere = site.app.test_client()
    elsewhere.environ_base["REMOTE_ADDR"] = "10.0.0.9"
    assert log_in(elsewhere, "the-admin", PASSWORD).status_code == 302


def test_bad_tries_are_counted_across_processes(site: Site, settings: Settings, redis_client: redis.Redis) -> None:
    other = make_site(settings, redis_client)
    for _ in range(5):
        log_in(site.visitor(None), "nobody", WRONG)
        log_in(other.visitor(None), "nobody", WRONG)
    assert log_in(other.visitor(None), "nobody", WRONG).status_code == 429
    other.store.close()


def test_good_logins_are_not_counted(site: Site) -> None:
    assert [site.visitor(Role.VIEWER).get("/admin/queues").status_code for _ in range(12)] == [200] * 12


def test_without_the_broker_logins_work_and_are_still_limited(make_settings: MakeSettings) -> None:
    settings = make_settings(redis_url="redis://127.0.0.1:1/0")
    away = connect(settings)
    site = make_site(settings, away)
    assert site.visitor(Role.ADMIN).get("/admin/tenants").status_code == 200
    client = site.visitor(None)
    statuses = [log_in(client, "nobody", WRONG).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    site.store.close()
    away.close()


def test_an_unknown_user_gets_the_same_answer(site: Site) -> None:
    site.add_user(Role.ADMIN)
    answers = [log_in(site.visitor(None), name, WRONG) for name in ("the-admin", "the-nobody", "<b>'\x00", "")]
    first = re.sub(TOKEN, "", answers[0].text).replace("the-admin", "NAME")
    assert re.sub(TOKEN, "", answers[1].text).replace("the-nobody", "NAME") == first
    assert [(answer.status_code, answer.headers["Content-Type"]) for answer in answers] == [
        (401, answers[0].headers["Content-Type"])
    ] * 4
    assert "<b>" not in answers[2].text


def test_nobody_is_in_without_having_been_made(site: Site) -> None:
    for name, password in (("admin", "admin"), ("admin", ""), ("admin", "password"), ("the-admin", PASSWORD)):
        assert log_in(site.visitor(None), name, password).status_code == 401


def test_each_login_has_a_new_session_id(site: Site) -> None:
    client = site.visitor(None)
    with client.session_transaction() as held:
        held["sid"] = "planted"
        held["planted"] = "yes"
    site.add_user(Role.ADMIN)
    log_in(client, "the-admin", PASSWORD)
    first = session_of(client)
    with client.session_transaction() as held:
        assert "planted" not in held
    client.get("/admin/login")
    post(client, "/admin/login", name="the-admin", password=PASSWORD)
    second = session_of(client)
    assert None not in (first, second)
    assert len({"planted", first, second}) == 3


def test_logout_kills_a_copied_cookie(site: Site) -> None:
    client = site.visitor(Role.ADMIN)
    cookie = client.get_cookie("qosqueue_admin")
    assert cookie is not None
    thief = site.app.test_client()
    thief.set_cookie("qosqueue_admin", cookie.value)
    assert thief.get("/admin/tenants").status_code == 200
    post(client, "/admin/logout")
    assert client.get("/admin/tenants").status_code == 302
    assert thief.get("/admin/tenants").status_code == 302
    assert site.visitor(Role.ADMIN).get("/admin/tenants").status_code == 200, "only that session ended"


def test_a_session_ends_after_twelve_hours(site: Site) -> None:
    client = site.visitor(Role.ADMIN)
    with client.session_transaction() as held:
        held["begun_ms"] -= 12 * 3_600_000 + 1
    assert client.get("/admin/tenants").status_code == 302


def test_login_and_logout_are_in_the_audit_log_without_the_session_id(site: Site) -> None:
    client = site.visitor(Role.ADMIN)
    sid = session_of(client)
    post(client, "/admin/logout")
    rows = site.audit("session.begin") + site.audit("session.end")
    assert [row.actor for row in rows] == ["user:the-admin"] * 2
    assert sid is not None
    assert all(sid not in row.subject for row in rows)


@pytest.mark.parametrize(("https", "name"), [(False, "qosqueue_admin"), (True, "__Host-qosqueue_admin")])
def test_the_cookie_is_guarded(make_settings: MakeSettings, redis_client: redis.Redis, https: bool, name: str) -> None:
    site = make_site(make_settings(), redis_client, ADMIN_HTTPS=https)
    site.add_user(Role.ADMIN)
    client = site.app.test_client()
    base = "https://localhost" if https else "http://localhost"
    page = client.get("/admin/login", base_url=base)
    found = TOKEN.search(page.text)
    assert found is not None
    sent = {"csrf_token": found[1], "name": "the-admin", "password": PASSWORD}
    answer = client.post("/admin/login", data=sent, base_url=base)
    assert answer.status_code == 302
    cookie = answer.headers["Set-Cookie"]
    flags = {part.strip() for part in cookie.split(";")[1:]}
    assert cookie.startswith(f"{name}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= flags
    assert ("Secure" in flags) == https
    assert not any(flag.startswith("Domain") for flag in flags)
    site.store.close()


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ("/admin/tenants?x=1", "/admin/tenants?x=1"),
        ("//evil.example/admin/", "/admin/"),
        ("https://evil.example/admin/", "/admin/"),
        ("/admin/\\evil.example", "/admin/"),
        ("/admin/\r\nSet-Cookie: a=b", "/admin/"),
        ("javascript:alert(1)", "/admin/"),
        ("", "/admin/"),
    ],
)
def test_a_login_leads_only_to_these_pages(site: Site, wanted: str, got: str) -> None:
    site.add_user(Role.ADMIN)
    answer = log_in(site.visitor(None), "the-admin", PASSWORD, next=wanted)
    assert answer.headers["Location"] == got


def test_a_stranger_comes_back_to_the_page_he_asked_for(site: Site) -> None:
    answer = site.visitor(None).get("/admin/tenants?sort=name")
    assert answer.headers["Location"] == "/admin/login?next=/admin/tenants?sort%3Dname"


def test_with_the_database_away_a_page_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from qosqueue.errors import StoreUnavailable
    from qosqueue.store.session import Store

    client = site.visitor(Role.ADMIN)

    def away(_self: Store) -> None:
        raise StoreUnavailable("database sqlite: disk I/O error")

    monkeypatch.setattr(Store, "session", away)
    for path in ("/admin/tenants", "/admin/queues"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "The database is unavailable" in answer.text
        assert "disk I/O" not in answer.text
    assert caplog.messages == ["StoreUnavailable: database sqlite: disk I/O error"] * 2

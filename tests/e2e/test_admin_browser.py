"""Do the admin pages work in a real browser, under their own content policy?"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from qosqueue.policy.terms import Tier
from qosqueue.store.records import Role
from tests.support.admin_site import PASSWORD, Site, site_fixture  # noqa: F401
from tests.support.fake_queues import lane, replica
from tests.support.jobs import failed_job
from tests.support.messages import submission

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "no browser: no chromium on PATH (apt-get install chromium)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """URL of the pages, served on a free port."""
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh window on the pages. The test fails for every error that the browser told of."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 860})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.add_init_script(
        "document.addEventListener('securitypolicyviolation', event => console.error('CSP', event.violatedDirective))"
    )
    yield opened
    context.close()
    assert complaints == []


def log_in(page: Page, site: Site, role: Role = Role.ADMIN) -> None:
    site.add_user(role)
    page.goto("/admin/")
    page.get_by_label("Name").fill(f"the-{role}")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()


def test_a_tenant_is_made_seen_and_given_a_key(page: Page, site: Site) -> None:
    log_in(page, site)
    page.get_by_role("link", name="Tenants").click()
    page.get_by_role("link", name="New tenant").click()
    page.get_by_label("Name").fill("acme")
    page.get_by_label("Tier").select_option("vip")
    page.get_by_label("Requests per minute").fill("600")
    page.get_by_role("button", name="Create tenant").click()
    expect(page.get_by_role("status")).to_have_text("Tenant acme was created.")
    assert site.accounts.get_tenant("acme").tier is Tier.VIP

    page.get_by_role("button", name="Issue a key").click()
    key = page.locator("#new-key")
    expect(key).to_be_visible()
    owner = site.accounts.authenticate(key.inner_text())
    assert owner is not None
    assert owner.name == "acme"
    page.reload()
    expect(key).to_have_count(0)
    assert len(site.accounts.list_keys()) == 1, "to load the page again must not make another key"

    page.get_by_text("Revoke…").click()
    page.get_by_role("button", name="Revoke this key").click()
    expect(page.get_by_role("cell", name="revoked")).to_be_visible()
    page.get_by_role("link", name="Tenants").first.click()
    expect(page.get_by_role("row", name="acme")).to_contain_text("600")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_why_a_job_failed_can_be_read_without_scrolling(page: Page, site: Site) -> None:
    tenant = site.accounts.create_tenant("acme", Tier.VIP, actor="system:test")
    why = "Every attempt ended with the loss of its worker; the job is kept as a dead letter."
    site.jobs.found = [failed_job(tenant.id, index, why, model="smollm2") for index in range(3)]
    log_in(page, site)
    page.goto(f"/admin/tenants/{tenant.id}/jobs")
    told = page.get_by_role("cell", name=why).first
    box = told.bounding_box()
    assert box is not None
    assert box["height"] < 60, "in one line, or two"
    assert told.evaluate("cell => cell.closest('.table').scrollWidth <= cell.closest('.table').clientWidth")


def test_the_page_of_queues_follows_by_itself(page: Page, site: Site) -> None:
    site.queues.lane_views = [lane("vip.light", depth=3, oldest_wait_ms=1500)]
    log_in(page, site)
    row = page.get_by_role("row", name="vip light")
    expect(row).to_contain_text("1.5 s")
    site.queues.lane_views = [lane("vip.light", depth=77)]
    site.queues.replica_views = [replica("worker-1", "smollm2", slots=2, busy=1)]
    expect(row).to_contain_text("77", timeout=6_000)
    expect(page.get_by_role("row", name="worker-1")).to_contain_text("no GPU")
    site.queues.outage = "connection refused"
    expect(page.get_by_text("Broker unavailable since")).to_be_visible(timeout=6_000)
    expect(row).to_contain_text("77")


def test_the_page_of_queues_does_not_ask_while_hidden(page: Page, site: Site) -> None:
    log_in(page, site)
    asked: list[str] = []
    # The browser fetches the icon when it likes.
    page.on("request", lambda request: "static" in request.url or asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    with page.expect_request("**/admin/queues/live", timeout=8_000):
        # Two polls' time: hidden, then seen again. The one request is that of being seen.
        page.evaluate(
            """() => setTimeout(() => {
                Object.defineProperty(document, 'hidden', {value: false, configurable: true});
                document.dispatchEvent(new Event('visibilitychange'));
            }, 5000)"""
        )
        page.evaluate("window.hiddenSince = performance.now()")
    assert page.evaluate("performance.now() - window.hiddenSince") >= 4_500
    assert len(asked) == 1


def test_figures_that_come_no_more_are_called_old(page: Page, site: Site) -> None:
    log_in(page, site)
    page.evaluate("document.getElementById('live').addEventListener('htmx:beforeRequest', e => e.preventDefault())")
    expect(page.get_by_text("Out of date.")).to_be_visible(timeout=12_000)
    expect(page.locator("#live")).to_have_class("old")


def furnish(site: Site) -> None:
    """A model with a long name, a tenant of two versions, an override, a bound, a breaker, a limit, and work."""
    services = site.services
    long = "a-much-longer-model/name-of-13b"
    for name in ("smollm2", long):
        services.catalog.add_model(name, "simulated", actor="test", memory_bytes=1, context_tokens=9, slots=1)
    site.accounts.create_tenant("acme", Tier.VIP, actor="test", weight=5)
    site.accounts.update_tenant("acme", actor="user:bob", weight=6, why="a bigger contract was signed in November")
    about = {"tenant": "acme", "model": long}
    services.policies.set_override(about, {"max_queued": 3, "road": ["retry"]}, actor="user:bob", why="")
    about |= {"task_type": "async"}
    services.policies.bound_scenario(about, {"lower_ms": 100}, actor="user:bob", why="")
    # One of a replica that is gone: no page would trip it.
    services.scripts.trip(name="r:10:worker-one:smollm2", for_ms=0)
    services.limits.set("t:acme", 4, actor="test", for_s=600)
    services.scripts.submit(**submission(lane="vip.light"))
    site.queues.lane_views = [lane("vip.light", depth=1)]


@pytest.mark.parametrize("width", [1280, 375])
def test_no_page_is_wider_than_the_window(page: Page, site: Site, width: int) -> None:
    furnish(site)
    page.set_viewport_size({"width": width, "height": 860})
    log_in(page, site)
    for path in ("queues", "policy", "policy/4", "policy/diff?before=1", "overrides", "budgets", "limits"):
        page.goto(f"/admin/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for more in page.get_by_role("group").filter(has=page.locator("summary")).all():
            more.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
    page.goto("/admin/queues/vip.light/purge")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_breaker_is_tripped_and_an_old_policy_comes_back_without_a_mouse(page: Page, site: Site) -> None:
    furnish(site)
    log_in(page, site)
    page.goto("/admin/limits")
    page.get_by_text("Trip…").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("60")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("is open.")
    assert {view.state for view in site.services.breakers.list()} == {"open", "closed"}

    number = site.services.policies.versions.list(1)[0].number
    page.get_by_role("link", name="Policy").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name=str(number - 2), exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_label("Reason").focus()
    page.keyboard.type("a mistake")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("holds again")
    assert site.services.agreements.overrides() == []


def test_a_lane_is_purged(page: Page, site: Site) -> None:
    furnish(site)
    log_in(page, site, Role.OPERATOR)
    page.get_by_role("link", name="Purge vip.light").click()
    page.get_by_label("Type the lane's name").fill("vip.light")
    page.get_by_role("button", name="End all that waits").click()
    expect(page.get_by_role("status").filter(has_text="were ended")).to_be_visible()
    assert site.services.purges.waiting("vip.light") == 0

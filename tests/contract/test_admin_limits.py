"""Do the pages of limits, breakers and purges show what is in force, and change it with an audit row each?"""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.terms import Tier
from qosqueue.store.records import Role
from tests.support.admin_site import Site, post, site_fixture  # noqa: F401
from tests.support.fake_queues import lane
from tests.support.messages import submission

LANE = "vip.light"


@pytest.fixture
def furnished(site: Site) -> Site:
    """A site with a model and a tenant."""
    site.services.catalog.add_model("tiny", "simulated", actor="test", memory_bytes=1, context_tokens=9, slots=1)
    site.accounts.create_tenant("acme", Tier.VIP, actor="test")
    return site


@pytest.fixture
def client(furnished: Site) -> FlaskClient:
    return furnished.visitor(Role.OPERATOR)


def names(site: Site) -> list[str]:
    return [view.name for view in site.services.limits.list()]


def test_a_limit_is_set_shown_and_lifted(furnished: Site, client: FlaskClient) -> None:
    assert post(client, "/admin/limits", name="t:acme", most="4", for_s="60").status_code == 302
    tenant = furnished.accounts.get_tenant("acme")
    assert names(furnished) == [f"t:{tenant.id}"]
    page = client.get("/admin/limits").text
    assert f"t:{tenant.id}" in page
    assert '<span class="muted">acme</span>' in page
    assert post(client, "/admin/limits/lift", name=f"t:{tenant.id}").status_code == 302
    assert names(furnished) == []
    assert post(client, "/admin/limits/lift", name=f"t:{tenant.id}").status_code == 404
    told = [row.actor for action in ("limit.set", "limit.lift") for row in furnished.audit(action)]
    assert told == ["user:the-operator"] * 2


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        ({"name": "x", "most": "1"}, "name-fault"),
        ({"name": "l:system", "most": "1"}, "name-fault"),
        ({"name": "m:tiny"}, "most-fault"),
        ({"name": "m:tiny", "most": "-1"}, "most-fault"),
        ({"name": "m:tiny", "most": "1", "for_s": "soon"}, "for_s-fault"),
        ({"name": "t:acme", "most": "1"}, "for_s-fault"),
    ],
)
def test_a_limit_that_cannot_be_is_told_at_its_field(
    furnished: Site, client: FlaskClient, sent: dict[str, str], fault: str
) -> None:
    answer = post(client, "/admin/limits", **sent)
    assert answer.status_code == 422
    assert fault in answer.text
    assert names(furnished) == []


def test_a_cap_of_the_record_is_not_lifted_here(furnished: Site, client: FlaskClient) -> None:
    tenant = furnished.accounts.update_tenant("acme", actor="test", max_running=2)
    furnished.services.limits._shares.refresh()
    assert names(furnished) == [f"t:{tenant.id}"]
    assert "Lift" not in client.get("/admin/limits").text
    refused = post(client, "/admin/limits/lift", name=f"t:{tenant.id}")
    assert (refused.status_code, "the tenant&#39;s cap" in refused.text) == (422, True)


def test_a_breaker_is_tripped_and_reset(furnished: Site, client: FlaskClient) -> None:
    assert post(client, "/admin/breakers/trip", name="m:tiny", for_s="60").status_code == 302
    page = client.get("/admin/limits").text
    assert '<span class="state bad">open</span>' in page
    assert "b:tiny" not in page, "the limit that a breaker sets is not lifted by hand"
    assert post(client, "/admin/breakers/reset", name="m:tiny").status_code == 302
    assert '<span class="state ok">closed</span>' in client.get("/admin/limits").text
    for sent in ({"name": "x"}, {"name": "m:tiny", "for_s": "soon"}, {"name": "m:tiny", "for_s": "0"}):
        assert post(client, "/admin/breakers/trip", **sent).status_code == 422, sent
    assert post(client, "/admin/breakers/trip", name="m:nobody").status_code == 404
    assert post(client, "/admin/breakers/reset", name="x").status_code == 422
    told = [row.actor for action in ("breaker.trip", "breaker.reset") for row in furnished.audit(action)]
    assert told == ["user:the-operator"] * 2


def waiting(site: Site) -> int:
    count: int = site.services.purges.waiting(LANE)
    return count


def test_a_lane_is_purged_after_its_name_was_typed(
    furnished: Site, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: Any = furnished.services.scripts
    for number in range(3):
        scripts.submit(**submission(str(number), lane=LANE))
    furnished.queues.lane_views = [lane(LANE, depth=3), lane("system", depth=1)]
    address = f"/admin/queues/{LANE}/purge"
    listed = client.get("/admin/queues").text
    assert listed.count("/purge") == 1, "only lanes of requests"
    assert address in client.get("/admin/queues/live").text
    assert "<strong>3</strong> requests wait" in client.get(address).text
    assert post(client, address, address, lane="basic.light").status_code == 422
    assert waiting(furnished) == 3
    monkeypatch.setattr("qosqueue.service.purges.AT_ONCE", 1)
    monkeypatch.setattr("qosqueue_web.admin.purge.MOST_SLICES", 2)
    partly = post(client, address, address, lane=LANE, why="a flood")
    assert (partly.status_code, waiting(furnished)) == (200, 1)
    assert "2 requests of vip.light were ended; 1 are left" in partly.text
    assert f'name="lane" value="{LANE}"' in partly.text, "one more click goes on"
    assert post(client, address, address, lane=LANE).headers["Location"] == "/admin/queues"
    assert waiting(furnished) == 0
    assert "Nothing waits in this lane." in client.get(address).text
    told = furnished.audit("queue.purge")
    assert [(row.actor, row.subject) for row in told] == [("user:the-operator", LANE)] * 3
    assert told[0].after is not None
    assert told[0].after["why"] == "a flood"
    for unknown in ("system", "gold.light"):
        assert client.get(f"/admin/queues/{unknown}/purge").status_code == 404

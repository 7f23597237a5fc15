"""Does the page of queues tell the truth: figures, nothing yet, broker away, old figures?"""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from qosqueue.broker.replicas import Replica, ReplicaState
from qosqueue.policy.terms import LANES
from qosqueue.settings import Settings
from qosqueue.store.records import Role
from qosqueue.store.schema import upgrade
from qosqueue.wiring import build
from qosqueue_web.admin.queues import Board
from qosqueue_web.app import create_app
from tests.support.admin_site import PASSWORD, Site, log_in, site_fixture  # noqa: F401
from tests.support.fake_queues import FakeQueues, lane, replica

MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def client(site: Site) -> FlaskClient:
    return site.visitor(Role.VIEWER)


@pytest.mark.parametrize("path", ["/admin/queues", "/admin/queues/live"])
def test_figures_are_shown(site: Site, client: FlaskClient, path: str) -> None:
    site.queues.lane_views = [lane("vip.heavy", depth=1234, oldest_wait_ms=65_000, in_flight=7, relegated=2, dead=345)]
    site.queues.replica_views = [
        replica("worker-1@host", "smollm2", slots=4, busy=3, gpu="H200 #0", seen_ms_ago=900),
        replica("worker-2@host", MARKUP, slots=2, seen_ms_ago=60_000),
    ]
    html = client.get(path).text
    for shown in ("1\u2009234", "1 min 5 s", "worker-1@host", "smollm2", "H200 #0", "no GPU", "900 ms ago", ">345<"):
        assert shown in html
    assert html.count('class="state ok">alive') == 1
    assert html.count('class="state bad">silent') == 1
    assert MARKUP not in html
    assert ("<html" in html) == (path == "/admin/queues")


def test_every_lane_has_its_row_before_the_first_request(site: Site, client: FlaskClient) -> None:
    html = client.get("/admin/queues").text
    assert html.count('<tr class="idle">') == len(LANES)
    assert "No worker has a model loaded" in html


def test_with_the_broker_away_the_last_figures_are_marked_as_old(site: Site, client: FlaskClient) -> None:
    site.queues.lane_views = [lane("vip.heavy", depth=41)]
    client.get("/admin/queues/live")
    site.queues.outage = f"connection refused {MARKUP}"
    answer = client.get("/admin/queues/live")
    assert answer.status_code == 200, "another status would not be swapped in"
    assert "Broker unavailable since" in answer.text
    assert "The figures below are those of" in answer.text
    assert 'class="old"' in answer.text
    assert ">41<" in answer.text
    assert MARKUP not in answer.text
    site.queues.outage = None
    assert "Broker unavailable" not in client.get("/admin/queues/live").text


def test_with_the_broker_away_from_the_start_there_are_no_figures(site: Site, client: FlaskClient) -> None:
    site.queues.outage = "connection refused"
    html = client.get("/admin/queues").text
    assert "There are no earlier figures" in html
    assert "<table" not in html


def test_an_outage_began_when_it_was_first_seen() -> None:
    queues, times = FakeQueues(), iter([100, 200, 300, 400])
    board = Board(queues, clock_ms=lambda: next(times))  # type: ignore[arg-type]
    assert board.read().down_since_ms is None
    queues.outage = "away"
    assert board.read().down_since_ms == 200
    again = board.read()
    assert (again.down_since_ms, again.taken_ms) == (200, 100)
    queues.outage = None
    back = board.read()
    assert (back.down_since_ms, back.taken_ms) == (None, 300)
    queues.outage = "away"
    assert board.read().down_since_ms == 400


def test_the_real_queues_fit_the_page(settings: Settings) -> None:
    upgrade(settings.sql_url())
    services = build(settings)
    services.users.create_user("the-viewer", PASSWORD, Role.VIEWER, "system:test")
    services.replicas.register(Replica("worker-1", "smollm2", 4, 1, None, ReplicaState.READY, pid=1))
    client = create_app(services).test_client()
    assert log_in(client, "the-viewer", PASSWORD).status_code == 302
    html = client.get("/admin/queues").text
    assert "worker-1" in html
    assert html.count('<tr class="idle">') >= len(LANES)
    answer = client.get("/admin/nothing-here")
    assert answer.status_code == 404
    services.close()

"""Do an operator and a failing engine open breakers, and do workers and the door heed them?"""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from qosqueue.broker.address import connect
from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.replicas import Replica, ReplicaState
from qosqueue.cli import app
from qosqueue.policy.breaker import FIRST_PAUSE_MS, State, model_breaker, replica_breaker
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.refusal import Refusal
from qosqueue.service.audit import Audit
from qosqueue_workers.breakers import ReplicaBreakers
from tests.support.eventually import eventually
from tests.support.road import Road

PLACES = [("vip.light", "sim")]


@pytest.fixture
def modelled(road: Road, monkeypatch: pytest.MonkeyPatch) -> Road:
    road.model()
    monkeypatch.setenv("QOSQUEUE_HOME", str(road.settings.home))
    monkeypatch.setenv("QOSQUEUE_REDIS_URL", str(road.settings.redis_url))
    return road


def run(words: str) -> Result:
    return CliRunner().invoke(app, shlex.split(words))


def run_json(words: str) -> Any:
    done = run(f"{words} --json")
    assert done.exit_code == 0, done.stderr or done.exception
    return json.loads(done.stdout)


def picked(road: Road) -> bool:
    return isinstance(road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES), Delivery)


def test_an_operator_trips_and_resets_a_model(modelled: Road) -> None:
    modelled.submit()
    modelled.submit()
    (view,) = run_json("breaker trip --model sim --for-s 60")
    assert (view["name"], view["state"]) == ("m:sim", "open")
    assert not picked(modelled), "what is queued waits, too"
    refusal = modelled.services.jobs.submit(modelled.tenant, modelled.request())
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "model_unavailable", 60)
    entry = Audit(modelled.services.store).list(1)[0]
    assert (entry.action, entry.subject, entry.after) == ("breaker.trip", "m:sim", {"state": "open", "for_s": 60})
    (view,) = run_json("breaker reset m:sim")
    assert (view["state"], view["until_ms"]) == ("closed", None)
    assert picked(modelled)
    assert Audit(modelled.services.store).list(1)[0].action == "breaker.reset"
    assert "m:sim" in run("breaker list").stdout
    assert run_json("breaker list")[0]["score"] == 0


def test_a_breaker_does_not_meet_an_operators_limit(modelled: Road) -> None:
    modelled.services.limits.set("m:sim", 1, actor="test", for_s=600)
    modelled.services.breakers.trip("m:sim", actor="test")
    modelled.services.breakers.reset("m:sim", actor="test")
    for _ in range(2):
        modelled.submit()
    assert [picked(modelled), picked(modelled)] == [True, False], "the limit still counts"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("breaker trip", 2, "expected a name, --model"),
        ("breaker trip x:y", 2, "m:MODEL"),
        ("breaker trip r:9:x:y", 2, "m:MODEL"),
        ("breaker trip m:none", 1, "no model 'none'"),
        ("breaker trip m:sim --for-s 0", 2, "for_s"),
        ("breaker reset --worker w", 2, "expected a name, --model"),
    ],
)
def test_an_error_is_clear_and_changes_nothing(modelled: Road, words: str, code: int, told: str) -> None:
    done = run(words)
    assert done.exit_code == code, done.stdout
    assert told in (done.stderr or str(done.exception))
    assert modelled.services.scripts.probe() == {}


def test_while_half_open_only_probes_run_and_the_sweep_lets_them(modelled: Road) -> None:
    scripts = modelled.services.scripts
    for _ in range(5):
        scripts.observe(names=[model_breaker("sim")], served=False, now_ms=scripts.server_ms() - FIRST_PAUSE_MS)
    for _ in range(4):
        assert not isinstance(scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES), Delivery)
    modelled.services.watchdog.age()
    for _ in range(3):
        modelled.services.jobs.submit(modelled.tenant, modelled.request())
    assert [picked(modelled) for _ in range(3)] == [True, True, False]


def test_a_worker_heeds_the_breaker_of_its_replica_and_stands_back_for_others(modelled: Road) -> None:
    services = modelled.services
    table = LeaseTable(lambda: connect(modelled.settings), modelled.settings.group, lease_ms=9_000, capacity={"sim": 4})
    breakers = ReplicaBreakers(services.scripts, services.replicas, table, "w", ["sim"])
    freed: list[str] = []
    table.watch(freed.append)
    breakers.stand_back("sim")
    assert table.has_slot("sim"), "there is nobody else"
    for _ in range(5):
        assert table.has_slot("sim")
        breakers.failed("sim")
    assert not table.has_slot("sim")
    name = replica_breaker("w", "sim")
    assert services.scripts.probe()[name].state is State.OPEN
    services.scripts.probe(now_ms=services.scripts.server_ms() + FIRST_PAUSE_MS)
    breakers.look()
    assert table.has_slot("sim")
    assert freed == ["sim"]
    services.breakers.reset(name, actor="test")
    breakers.look()
    services.replicas.register(Replica("other", "sim", 4, 0, None, ReplicaState.READY, 1))
    breakers.stand_back("sim")
    assert not table.has_slot("sim")
    eventually(lambda: table.has_slot("sim"), within_s=5)

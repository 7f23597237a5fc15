"""Does the order know the pool of a project that has no watchdog, so that a flood moves back its own tasks only?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from qosqueue.broker.envelope import PLAIN_BUDGETS_MS
from qosqueue.broker.host_pool import NO_SPARE, HostPool, Promises
from qosqueue.broker.scripts import Scripts
from qosqueue.celery import configure
from qosqueue.policy.order import pool_terms
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import Limit
from qosqueue.policy.reference.message import Delivery
from tests.support.celery_processes import TcpBroker, compat_worker, tcp_broker
from tests.support.compat_tasks import GROUP, make_app
from tests.support.eventually import eventually

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

PERIOD_MS = 1_000


@pytest.fixture
def broker() -> Iterator[TcpBroker]:
    with tcp_broker() as started:
        yield started


def send(app: Celery, folder: Path, name: str, tenant: str, **qos: Any) -> None:
    """Send one task that writes its name when it begins, and ends at once."""
    (folder / f"{name}.end").touch()
    app.signature("hold", args=(str(folder), name)).apply_async(headers={"qos": {"tenant": tenant, **qos}})


def test_a_quiet_tenant_does_not_wait_for_a_flood(broker: TcpBroker, tmp_path: Path) -> None:
    app = make_app(broker.url)
    scripts = Scripts(broker.client, GROUP)
    with compat_worker(broker.url, pool="threads", slots=1):
        # The worker tells of its one slot before it takes its first task.
        app.signature("hold", args=(str(tmp_path), "first")).apply_async()
        eventually((tmp_path / "began").exists, within_s=10)
        for number in range(100):
            send(app, tmp_path, f"flood {number}", "flood", priority=8)
        for number in range(2):
            send(app, tmp_path, f"quiet {number}", "quiet", priority=8)
        (tmp_path / "first.end").touch()
        began = eventually(lambda: _as_many(tmp_path / "began", 103), within_s=30)
        # It goes on telling.
        broker.client.delete(f"{scripts.key}:pool:")
        assert eventually(lambda: broker.client.hget(f"{scripts.key}:pool:", "slots"), within_s=10) == b"1"
    app.close()
    # What fits into anybody's allowance, four mean services, may stand before.
    assert {began.index(f"quiet {number}") for number in range(2)} <= set(range(8))


def test_tasks_without_a_tenant_are_a_flood_like_any_other_once_they_have_one(broker: TcpBroker) -> None:
    app = make_app(broker.url, default_tenant="rest")
    scripts = Scripts(broker.client, GROUP)
    scripts.pool("", pool_terms(1, 1_000, PLAIN_BUDGETS_MS))
    for number in range(30):
        app.signature("at").apply_async(task_id=f"plain {number}")
    app.signature("at").apply_async(task_id="acme", headers={"qos": {"tenant": "acme"}})
    app.close()
    picked = [scripts.dispatch(lease_ms=60_000, holder="test", places=[("celery", "")]) for _ in range(8)]
    assert "acme" in [delivery.task for delivery in picked if isinstance(delivery, Delivery)]


def test_a_task_with_a_model_runs_where_it_is_served(broker: TcpBroker, tmp_path: Path) -> None:
    app, began = make_app(broker.url), tmp_path / "began"
    names = [f"x {number}" for number in range(4)]

    def hold(name: str, **qos: Any) -> None:
        app.signature("hold", args=(str(tmp_path), name)).apply_async(headers={"qos": qos} if qos else {})

    with compat_worker(broker.url, pool="threads", slots=4):
        for name in names:
            hold(name, model="x")
        (tmp_path / "plain.end").touch()
        hold("plain")
        eventually(lambda: _as_many(began, 1), within_s=10)
        with compat_worker(broker.url, pool="prefork", slots=4, models={"x": 2}):
            eventually(lambda: _as_many(began, 3), within_s=10)
            # Both workers have free slots, and one more that serves the model would be too many.
            (tmp_path / "later.end").touch()
            hold("later")
            assert eventually(lambda: _as_many(began, 4), within_s=10)[::3] == ["plain", "later"]
            assert pool_of(Scripts(broker.client, GROUP), "x")["slots"] == 2
            (tmp_path / "x 0.end").touch()
            assert eventually(lambda: _as_many(began, 5), within_s=10)[4] == "x 2"
            for name in names:
                (tmp_path / f"{name}.end").touch()
            eventually(lambda: _as_many(began, 6), within_s=10)
    app.close()


@pytest.mark.parametrize(
    ("models", "acks_late", "told"),
    [
        ({"x": 0}, True, "models: x: expected a whole number from 1"),
        ({"": 1}, True, "models: expected names of 1 to 128"),
        ({"x": 1}, False, "models: expected task_acks_late"),
    ],
)
def test_models_that_a_worker_cannot_keep_to_are_refused(models: dict[str, int], acks_late: bool, told: str) -> None:
    app = Celery(set_as_current=False)
    app.conf.task_acks_late = acks_late
    with pytest.raises(ValueError, match=told):
        configure(app, models=models)


def _as_many(file: Path, lines: int) -> list[str]:
    found = file.read_text().splitlines() if file.exists() else []
    return found if len(found) == lines else []


def pool_of(scripts: Scripts, model: str = "") -> dict[str, int]:
    found: Any = scripts.client.hgetall(f"{scripts.key}:pool:{model}")
    return {name.decode(): int(value) for name, value in found.items()}


def test_the_pool_is_what_all_live_consumers_take(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = Scripts(redis_client, "g")
    pool = HostPool(scripts, "", PERIOD_MS, Promises())
    for process, slots in {"a:1": 4, "b:2": 1, "c:3": 7}.items():
        monkeypatch.setattr("qosqueue.broker.host_pool._process", lambda process=process: process)
        redis_client.delete(f"{scripts.key}:told")
        pool.tell({"": slots}, measured=True)
    assert pool_of(scripts)["slots"] == 12
    # Only the first in each period tells the order.
    pool.tell({"": 100}, measured=True)
    assert pool_of(scripts)["slots"] == 12


@pytest.mark.parametrize(("measured", "mean_ms"), [(True, 40), (False, 1_000)])
def test_the_mean_counts_if_acknowledgements_come_late(redis_client: redis.Redis, measured: bool, mean_ms: int) -> None:
    scripts = Scripts(redis_client, "g")
    redis_client.hset(f"{scripts.key}:mean32", "", 40 * 32)
    HostPool(scripts, "", PERIOD_MS, Promises()).tell({"": 2}, measured=measured)
    assert pool_of(scripts)["mean_ms"] == mean_ms
    assert pool_of(scripts)["spare"] == NO_SPARE


def test_promises_are_all_that_the_order_knows_of_their_kind(redis_client: redis.Redis) -> None:
    scripts = Scripts(redis_client, "g")
    scripts.share("gone", Share(contract_q10=512))
    scripts.limit(name="t:gone", most=1)
    scripts.limit(name="t:for a time", most=1, for_ms=100_000)
    scripts.limit(name="l:lane", most=0)
    Promises(shares={"acme": 25}, weights={"acme": 200, "zenith": 50}, caps={"acme": 3}).keep(scripts)
    assert scripts.shares() == {"acme": Share(256, None, 512), "zenith": Share(0, None, 2048)}
    limits = scripts.limits()
    assert limits.pop("t:for a time").until
    assert limits == {"t:acme": Limit(3), "l:lane": Limit(0)}
    Promises().keep(scripts)
    assert scripts.limits()["t:acme"] == Limit(3)


@pytest.mark.parametrize(
    ("promises", "told"),
    [
        ({"shares": {"acme": 60, "zenith": 50}}, "100 percent"),
        ({"shares": {"acme": 0.5}}, "shares: acme"),
        ({"weights": {"acme": 0}}, "weights: acme"),
        ({"caps": {"acme": -1}}, "caps: acme"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(promises: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        configure(Celery(set_as_current=False), **promises)

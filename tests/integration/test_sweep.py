"""What does a consumer's sweep do in a project without a watchdog, also while the result backend is away?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError

from qosqueue.broker import ends
from qosqueue.broker.ends import Ends
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.sweep import sweep
from tests.support.celery_processes import TcpBroker, tcp_broker
from tests.support.compat_tasks import GROUP, make_app
from tests.support.eventually import eventually
from tests.support.messages import submission

# Celery's own result backend calls what redis-py 8 wants replaced.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture(scope="module")
def broker() -> Iterator[TcpBroker]:
    with tcp_broker() as started:
        yield started


@pytest.fixture
def app(broker: TcpBroker) -> Iterator[Celery]:
    broker.client.flushall()
    made = make_app(broker.url)
    yield made
    made.close()


def test_an_end_that_the_backend_did_not_take_is_told_with_the_next_sweep(
    app: Celery, broker: TcpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [app.send_task("at", headers={"qos": {"ttl_ms": 1}}) for _ in range(2)]
    scripts = Scripts(broker.client, GROUP)
    mark, calls = app.backend.mark_as_revoked, []

    def away_at_first(task: str, *args: Any, **kwargs: Any) -> None:
        calls.append(task)
        if len(calls) == 1:
            raise redis.ConnectionError("the backend is away")
        mark(task, *args, **kwargs)

    monkeypatch.setattr(app.backend, "mark_as_revoked", away_at_first)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        eventually(
            lambda: scripts.server_ms() > broker.client.zrange(f"{scripts.key}:expiry", -1, -1, withscores=True)[0][1],
            within_s=5,
        )
        sweep(channel.scripts, channel.celery, channel.decode_body)
        assert not list(broker.client.scan_iter(match=f"{scripts.key}:msg:*")), "both left the queue"
        assert sorted(result.state for result in results) == ["PENDING", "REVOKED"]
        sweep(channel.scripts, channel.celery, channel.decode_body)
    for result in results:
        with pytest.raises(TaskRevokedError):
            result.get(timeout=1)
    assert len(calls) == 3


def test_what_is_kept_for_a_backend_that_stays_away_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "MOST_UNTOLD", 5)
    untold, tried, is_away = Ends(), [], True

    def tell(task: str) -> None:
        tried.append(task)
        if is_away:
            raise OSError("away")

    for number in range(7):
        untold.add(f"{number}", lambda task=f"{number}": tell(task))
    assert not untold.tell_all()
    assert tried == ["2", "3", "4"]
    tried.clear()
    is_away = False
    assert untold.tell_all()
    assert untold.tell_all()
    assert tried == ["5", "6", "2", "3", "4"]


def test_what_time_changes_is_moved_where_nobody_picks(redis_client: redis.Redis) -> None:
    scripts = Scripts(redis_client, "g")
    scripts.submit(**submission("late", tenant="acme", organisation="acme", priority=5, budget_ms=1))
    scripts.submit(**submission("later", delay_ms=1))

    def stands() -> list[bytes | None]:
        sweep(scripts, None, lambda body, encoding: body)
        return [redis_client.hget(f"{scripts.key}:msg:{tag}", "stand") for tag in ("late", "later")]

    eventually(lambda: stands() == [b"relegated", b"live"], within_s=5)

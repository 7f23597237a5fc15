"""Does publishing say at once and plainly that the broker is away, in both orders, and go on when it is back?"""

from __future__ import annotations

import time
from typing import Any

import pytest

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import FIFO_QUEUE, make_celery
from qosqueue.broker.publish import Publisher
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.profile import Facts, Profile, make_profile
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.settings import Settings
from tests.support.broker import MakeSettings
from tests.support.road import OwnBroker

PROFILE: Profile = make_profile(Facts(Tier.VIP, WeightClass.LIGHT, TaskType.ONLINE, 10, 10))
BOTH = pytest.mark.parametrize("order", ["qos", "fifo"])


def publish(settings: Settings, request: str = "r", times: int = 1) -> None:
    app = make_celery(settings)
    try:
        publisher = Publisher(app, settings, Scripts(connect(settings), settings.group))
        for number in range(times):
            publisher.publish(f"{request}{number}", "m", "acme", "acme", PROFILE, {"id": request})
    finally:
        app.close()


@pytest.mark.alone
@BOTH
def test_a_broker_that_is_not_there(make_settings: MakeSettings, tmp_path: Any, order: str) -> None:
    settings = make_settings(order=order, redis_url=f"unix://{tmp_path}/none.sock")
    begun = time.perf_counter()
    with pytest.raises(BrokerUnavailable, match="did not take the request"):
        publish(settings)
    assert time.perf_counter() - begun < 3


@pytest.mark.alone
@BOTH
def test_a_broker_that_restarts_takes_the_next_request(own_broker: OwnBroker, order: str) -> None:
    settings = own_broker.settings.model_copy(update={"order": order})
    app = make_celery(settings)
    publisher = Publisher(app, settings, Scripts(connect(settings), settings.group))
    publisher.publish("one", "m", "acme", "acme", PROFILE, {"id": "one"})
    own_broker.stop()
    begun = time.perf_counter()
    with pytest.raises(BrokerUnavailable):
        publisher.publish("two", "m", "acme", "acme", PROFILE, {"id": "two"})
    assert time.perf_counter() - begun < 3
    own_broker.start()
    publisher.publish("three", "m", "acme", "acme", PROFILE, {"id": "three"})
    client = own_broker.client()
    if order == "qos":
        tasks: Any = client.hkeys(f"{{{settings.group}}}:tasks")
        assert set(tasks) == {b"one", b"three"}
    else:
        # Stock Kombu knows four priorities, each a list of its own; a vip's is the first.
        assert client.llen(FIFO_QUEUE) == 2
    app.close()


def test_a_request_is_whole_in_its_lane(settings: Settings, redis_client: Any) -> None:
    publish(settings)
    scripts = Scripts(redis_client, settings.group)
    found = scripts.dispatch(lease_ms=1_000, holder="h", places=[("vip.light", "m")])
    assert isinstance(found, Delivery)
    assert (found.task, found.lane, found.model) == ("r0", "vip.light", "m")
    message = redis_client.hgetall(f"{scripts.key}:msg:{found.tag}")
    assert int(message[b"budget_ms"]) == PROFILE.latency_budget_ms
    assert (message[b"tenant"], int(message[b"cost_ms"])) == (b"acme", PROFILE.cost_ms)
    assert int(message[b"expires"]) - int(message[b"arrival"]) == PROFILE.ttl_ms
    assert int(message[b"max_attempts"]) == PROFILE.max_attempts

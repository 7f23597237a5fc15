"""Does Kombu's world work on the QoS order: plain producers and consumers, with nothing lost and nothing left?"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from socket import timeout as SocketTimeout
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer
from kombu.message import Message

from qosqueue.broker.celery_app import make_celery
from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.publish import Publisher
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.profile import Facts, make_profile
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.settings import Settings
from tests.support import snapshots
from tests.support.eventually import eventually
from tests.support.messages import header

LANE = "vip.light"
FAR_MS = 10**13  # an instant by which every lease has run out
GENTLE_S = 5.0


class Bench:
    """One connection with a producer and consumers on the lanes, and the server behind it."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings = settings
        self.client = client
        self.scripts = Scripts(client, settings.group)
        self.table = LeaseTable(
            lambda: redis.Redis(connection_pool=client.connection_pool),
            settings.group,
            lease_ms=settings.lease_ms,
            capacity={"m": 8},
        )
        self.app: Celery = make_celery(settings, lease_table=self.table)
        self.connection: Connection = self.app.connection_for_write()
        self.got: list[Message] = []

    def publish(self, body: str, lane: str = LANE, **how: Any) -> None:
        """Publish one message through a plain producer."""
        queue = self.app.amqp.queues[lane]
        with self.connection.Producer() as producer:
            producer.publish(body, exchange=queue.exchange, routing_key=lane, declare=[queue], serializer="json", **how)

    def consumer(self, *lanes: str, no_ack: bool = False) -> Consumer:
        """A consumer that appends to `got` and settles nothing."""
        queues = [self.app.amqp.queues[lane] for lane in lanes or (LANE,)]
        return self.connection.Consumer(queues, callbacks=[self._take], no_ack=no_ack, accept=["json"])

    def take(self) -> Message:
        """The next message that is delivered."""
        count = len(self.got)
        while len(self.got) == count:
            self.connection.drain_events(timeout=GENTLE_S)
        return self.got[-1]

    def nothing_comes(self) -> bool:
        """Whether a look at the queue brings nothing."""
        count = len(self.got)
        with pytest.raises(SocketTimeout):
            self.connection.drain_events(timeout=0.05)
        return len(self.got) == count

    def left(self) -> dict[str, Any]:
        """What the group still has in Redis, except bells, what it has learned and what is counted on for ever."""
        left = self.state().items()
        return {key: value for key, value in left if not key.startswith((*snapshots.KEPT, "bell:"))}

    def state(self) -> dict[str, Any]:
        """Every key of the group."""
        return snapshots.of_redis(self.client, self.settings.group)

    def close(self) -> None:
        """Let go of everything."""
        self.connection.close()
        self.table.give_back()
        self.app.close()

    def _take(self, body: Any, message: Message) -> None:
        self.got.append(message)


@pytest.fixture
def bench(settings: Settings, redis_client: redis.Redis) -> Iterator[Bench]:
    made = Bench(settings, redis_client)
    yield made
    made.close()


def test_what_is_acknowledged_leaves_no_trace(bench: Bench) -> None:
    for number in range(5):
        bench.publish(f"body {number}")
    with bench.consumer():
        bodies = []
        for _ in range(5):
            message = bench.take()
            bodies.append(message.payload)
            message.ack()
        assert bench.nothing_comes()
    assert sorted(bodies) == [f"body {number}" for number in range(5)]
    assert bench.left() == {}


def test_while_a_message_is_out_it_is_leased_and_nowhere_else(bench: Bench) -> None:
    bench.publish("x")
    with bench.consumer():
        message = bench.take()
        state = bench.left()
        assert list(state["leases"]) == [next(key for key in state if key.startswith("msg:")).removeprefix("msg:")]
        assert not [key for key in state if key.startswith(("waiting", "heads", "arrivals", "due", "expiry"))]
        message.ack()


def test_a_rejected_message_comes_back_or_goes(bench: Bench) -> None:
    bench.publish("x")
    with bench.consumer():
        first = bench.take()
        assert not first.headers.get("redelivered")
        first.reject(requeue=True)
        second = bench.take()
        assert second.payload == "x"
        assert second.headers["redelivered"]
        second.reject()
        assert bench.nothing_comes()
    (dead,) = [value for key, value in bench.left().items() if key.startswith("msg:")]
    assert dead["state"] == "dead"


@pytest.mark.parametrize("gone", ["queued", "leased"])
def test_a_message_that_somebody_deleted_stops_nobody(bench: Bench, gone: str) -> None:
    """Only the message's own key is deleted: every index still names it."""
    bench.publish("lost")
    if gone == "leased":
        assert bench.scripts.dispatch(lease_ms=1, holder="h", places=[(LANE, "")])
    (key,) = bench.client.scan_iter(match="*:msg:*")
    bench.client.delete(key)
    bench.publish("whole")
    with bench.consumer():
        message = bench.take()
        assert message.payload == "whole"
        message.ack()
    assert bench.scripts.reap(limit=9, now_ms=FAR_MS).requeued == ()
    assert bench.scripts.purge(lane=LANE, limit=9) == 0
    kinds = ("waiting", "heads", "depth", "arrivals", "leases", "msg")
    assert not [key for key in bench.left() if key.startswith(kinds)]


def test_a_consumer_that_closes_gives_back_what_it_held(bench: Bench) -> None:
    bench.app.conf.broker_transport_options["celery"] = None
    bench.publish("x")
    bench.publish("y")
    with (
        bench.app.connection_for_read() as connection,
        connection.Consumer(
            [bench.app.amqp.queues[LANE]], callbacks=[lambda body, message: bench.got.append(message)], accept=["json"]
        ),
    ):
        while not bench.got:
            connection.drain_events(timeout=GENTLE_S)
    state = bench.state()
    assert int(state["depth"][f"live:{len(LANE)}:{LANE}:"]) == 2
    assert "leases" not in state


def test_no_acknowledgement_asked_none_needed(bench: Bench) -> None:
    bench.publish("x")
    with bench.consumer(no_ack=True):
        bench.take()
        assert bench.left() == {}


def test_a_callback_that_fails_without_acknowledgement_keeps_no_slot(bench: Bench) -> None:
    def fail(body: Any, message: Message) -> None:
        raise ZeroDivisionError

    bench.publish("x")
    consumer = bench.consumer(no_ack=True)
    consumer.callbacks = [fail]
    with consumer, pytest.raises(ZeroDivisionError):
        bench.take()
    assert bench.left() == {}


def test_basic_get(bench: Bench) -> None:
    channel = bench.connection.default_channel
    queue = bench.app.amqp.queues[LANE](channel)
    queue.declare()
    assert queue.get() is None
    bench.publish("x")
    bench.publish("y")
    message = queue.get()
    message.ack()
    assert {message.payload, queue.get(no_ack=True).payload} == {"x", "y"}
    assert queue.get() is None
    assert bench.left() == {}


def test_size_passive_declare_and_purge(bench: Bench) -> None:
    channel = bench.connection.default_channel
    for number in range(3):
        bench.publish(f"{number}")
    bench.publish("elsewhere", "basic.light")
    assert channel.queue_declare(LANE, passive=True).message_count == 3
    assert channel.queue_purge(LANE) == 3
    assert channel.queue_purge(LANE) == 0
    assert channel._size(LANE) == 0
    assert channel._size("basic.light") == 1
    with pytest.raises(bench.connection.channel_errors):
        channel.queue_declare(LANE, passive=True)
    channel.queue_delete("basic.light")
    assert not [key for key in bench.left() if not key.startswith("bell:")]


def test_tasks_without_a_qos_header_go_by_their_priority(bench: Bench) -> None:
    for priority in (9, 6, 4, 0, 2):
        bench.publish(f"{priority}", priority=priority)
    with bench.consumer():
        order = []
        for _ in range(5):
            message = bench.take()
            order.append(int(message.payload))
            message.ack()
    assert order == [0, 2, 4, 6, 9]


@pytest.mark.parametrize("broken", ["vip", {"modell": "m"}, {"model": "m", "priority": 10}])
def test_a_malformed_qos_header_is_refused_at_once(bench: Bench, broken: Any) -> None:
    with pytest.raises(ValueError, match="header 'qos'"):
        bench.publish("x", headers={"qos": broken})
    assert bench.left() == {}


def test_budgets_decide_and_higher_tiers_wait_less_of_them(bench: Bench) -> None:
    bench.publish("basic", "basic.light", headers=header(priority=9, budget_ms=10_000))
    bench.publish("vip, late", headers=header(budget_ms=9_000))
    bench.publish("standard", "standard.light", headers=header(priority=4, budget_ms=5_000))
    bench.publish("vip, soon", headers=header(budget_ms=3_000))
    with bench.consumer("basic.light", "standard.light", LANE):
        order = []
        for _ in range(4):
            message = bench.take()
            order.append(message.payload)
            message.ack()
    assert order == ["vip, soon", "vip, late", "standard", "basic"]
    assert bench.left() == {}


def test_a_message_for_a_model_that_is_not_here_waits(bench: Bench) -> None:
    bench.publish("x", headers=header(model="other"))
    with bench.consumer():
        assert bench.nothing_comes()
    assert bench.scripts.withdraw(task=next(iter(bench.state()["tasks"]))) == 1


def test_function_flush_is_not_noticed(bench: Bench) -> None:
    with bench.consumer():
        for number in range(4):
            bench.client.function_flush()
            bench.publish(f"{number}")
            bench.client.function_flush()
            message = bench.take()
            assert message.payload == f"{number}"
            bench.client.function_flush()
            message.ack()
    assert bench.left() == {}


def test_bindings_that_redis_lost_lose_no_message(bench: Bench) -> None:
    bench.publish("before")
    bench.client.flushall()
    with bench.app.producer_pool.acquire() as producer:
        for body in ("first", "second"):
            producer.publish(body, exchange="qosqueue", routing_key=LANE, serializer="json")
    assert bench.scripts.client.zcard(f"{bench.scripts.key}:arrivals:{LANE}") == 2


def test_a_read_that_the_server_refuses_leaves_the_answers_in_step(bench: Bench) -> None:
    """CLIENT UNBLOCK stands for a failover: the blocking read ends with an error, the pick behind it still answers."""
    with bench.consumer():
        assert bench.nothing_comes()
        blocked = [each for each in bench.client.client_list() if "b" in each["flags"]]
        assert len(blocked) == 1
        bench.client.client_unblock(blocked[0]["id"], error=True)
        with pytest.raises(redis.ResponseError):
            bench.take()
        for body in ("x", "y"):
            bench.publish(body)
            message = bench.take()
            assert message.payload == body
            message.ack()
    assert bench.left() == {}


def test_a_late_acknowledgement_is_refused(bench: Bench) -> None:
    """The lease is lost, the same process gets the message again, and then the first attempt ends."""
    bench.publish("x")
    with bench.consumer():
        first = bench.take()
        assert bench.scripts.reap(limit=9, now_ms=FAR_MS).fences == (1,)
        second = bench.take()
        assert second.payload == "x"
        assert second.delivery_tag != first.delivery_tag
        first.ack()
        (message,) = [value for key, value in bench.left().items() if key.startswith("msg:")]
        assert (message["state"], message["fence"]) == ("leased", "2")
        second.ack()
    assert bench.left() == {}


CONSUMER = """
import sys, threading
from qosqueue.broker.celery_app import make_celery
from qosqueue.settings import Settings
app = make_celery(Settings(redis_url=sys.argv[1], lease_ms=600))
def take(body, message):
    print(body, flush=True)
    threading.Event().wait()
with app.connection_for_read() as connection:
    with connection.Consumer([app.amqp.queues["vip.light"]], callbacks=[take], accept=["json"]):
        connection.drain_events()
"""


def test_a_consumer_killed_with_sigkill_loses_nothing(bench: Bench, valkey_url: str) -> None:
    bench.publish("precious")
    with subprocess.Popen([sys.executable, "-c", CONSUMER, valkey_url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "precious\n"
        assert bench.scripts.reap(limit=9).requeued == (), "it is alive and renews"
        process.send_signal(signal.SIGKILL)
    reaped = eventually(lambda: bench.scripts.reap(limit=9).requeued, within_s=3)
    assert len(reaped) == 1
    with bench.consumer():
        message = bench.take()
        assert message.payload == "precious"
        message.ack()
    assert bench.left() == {}


def test_a_full_broker_refuses_new_work_and_finishes_old(bench: Bench) -> None:
    publisher = Publisher(bench.app, bench.settings, bench.scripts)
    profile = make_profile(Facts(Tier.VIP, WeightClass.LIGHT, TaskType.ONLINE, 1, 1))
    publisher.publish("one", "m", "acme", "acme", profile, {"id": "one"})
    publisher.publish("two", "m", "acme", "acme", profile, {"id": "two"})
    with bench.consumer():
        held = bench.take()
        bench.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(BrokerUnavailable, match="did not take the request"):
                publisher.publish("three", "m", "acme", "acme", profile, {"id": "three"})
            fence = held.headers["qos_fence"]
            tag = held.delivery_tag.rpartition(":")[0]
            assert bench.scripts.renew(lease_ms=5_000, leases=[(tag, fence)]) == [1]
            held.ack()
            second = bench.take()
            assert {held.headers["id"], second.headers["id"]} == {"one", "two"}
            second.reject(requeue=True)
            assert bench.scripts.rerank(task=second.headers["id"], priority=1) == 1
            third = bench.take()
            third.ack()
            assert bench.left() == {}
        finally:
            bench.client.config_set("maxmemory", 0)
        publisher.publish("three", "m", "acme", "acme", profile, {"id": "three"})
        bench.take().ack()

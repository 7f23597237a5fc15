"""Do words go out soon and together, and is none of them lost without its attempt hearing of it?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from qosqueue.broker.outbox import LINGER_S, Outbox, ReplyWriter
from qosqueue.broker.replies import ReplyReader
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.wire import Command
from qosqueue.policy.reference.message import Delivery
from tests.support.eventually import eventually
from tests.support.messages import submission
from tests.support.road import OwnBroker

GROUP = "outbox"
LANE, MODEL = "vip.light", "m"


class CountedScripts(Scripts):
    """Scripts that remember each write, and wait at a gate before it if they are told to."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client, GROUP)
        self.writes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()

    def run(self, commands: Any) -> list[Any]:
        self.at_gate.set()
        assert self.gate.wait(10)
        self.writes.append(len(commands))
        return super().run(commands)


class Desk:
    """A worker's outbox and a web process's reader, on one server."""

    def __init__(self, connect: Callable[[], redis.Redis]) -> None:
        self.scripts = CountedScripts(connect())
        self.plain = Scripts(connect(), GROUP)
        self.outbox = Outbox(self.scripts)
        self.reader = ReplyReader(connect, GROUP)

    def writer(self, name: str) -> ReplyWriter:
        return ReplyWriter(self.outbox, self.reader.address, name, 1)

    def leased(self, task: str = "job") -> Command:
        """The command that settles a message that was just submitted and leased."""
        self.plain.submit(**submission(f"tag-{task}", task=task, lane=LANE, model=MODEL))
        found = self.plain.dispatch(lease_ms=60_000, holder="h", places=[(LANE, MODEL)])
        assert isinstance(found, Delivery)
        return self.plain.command("settle", found.tag, found.fence, "done", "", "")

    def leases(self) -> int:
        return int(self.plain.client.zcard(f"{{{GROUP}}}:leases"))


@pytest.fixture
def desk(redis_client: redis.Redis) -> Iterator[Desk]:
    made = Desk(lambda: redis.Redis(connection_pool=redis_client.connection_pool))
    yield made
    made.reader.close()


def test_last_words_and_settling_are_one_write_in_that_order(desk: Desk) -> None:
    inbox, writer, settle = desk.reader.expect("job"), desk.writer("job"), desk.leased()
    writer.write("started", {}, urgent=False)
    writer.write("done", {"n": 1}, urgent=False)
    assert desk.outbox.flush(writer, settle) == 1
    assert desk.scripts.writes == [2]
    assert [reply.kind for reply in inbox.get(timeout=5)] == ["started", "done"]
    assert desk.leases() == 0


def test_what_is_not_urgent_waits_for_a_moment_and_no_longer(desk: Desk) -> None:
    inbox, writer = desk.reader.expect("job"), desk.writer("job")
    writer.write("started", {}, urgent=False)
    assert [reply.kind for reply in inbox.get(timeout=LINGER_S * 100)] == ["started"]
    # Also after a pause that lets the thread which looks after it fall asleep.
    eventually(lambda: desk.outbox._asleep, within_s=20)
    writer.write("chunk", {}, urgent=False)
    assert [reply.kind for reply in inbox.get(timeout=LINGER_S * 100)] == ["chunk"]


def test_an_urgent_word_takes_along_all_that_waits(desk: Desk) -> None:
    inboxes = {name: desk.reader.expect(name) for name in ("a", "b")}
    desk.writer("a").write("started", {}, urgent=False)
    desk.writer("b").write("chunk", {"text": "b"})
    assert len(desk.scripts.writes) == 1
    assert [reply.kind for reply in inboxes["a"].get(timeout=5)] == ["started"]
    assert [reply.kind for reply in inboxes["b"].get(timeout=5)] == ["chunk"]


def test_words_gather_while_another_thread_writes(desk: Desk) -> None:
    inbox, writer = desk.reader.expect("job"), desk.writer("job")
    desk.scripts.gate.clear()
    first = threading.Thread(target=writer.write, args=("chunk", {"n": 0}))
    first.start()
    assert desk.scripts.at_gate.wait(5)
    for number in range(1, 50):
        writer.write("chunk", {"n": number})  # returns at once: somebody else is at it
    desk.scripts.gate.set()
    first.join()
    found: list[int] = []
    while len(found) < 50:
        found += [reply.data["n"] for reply in inbox.get(timeout=5)]
    assert found == list(range(50))
    assert len(desk.scripts.writes) == 2


def test_the_scripts_may_be_flushed_at_any_time(desk: Desk) -> None:
    inbox, writer, settle = desk.reader.expect("job"), desk.writer("job"), desk.leased()
    desk.plain.client.function_flush()
    writer.write("chunk", {"n": 0})
    desk.plain.client.function_flush()
    writer.write("done", {"n": 1}, urgent=False)
    assert desk.outbox.flush(writer, settle) == 1
    found: list[int] = []
    while len(found) < 2:
        found += [reply.data["n"] for reply in inbox.get(timeout=5)]
    assert found == [0, 1]
    assert desk.leases() == 0


def test_a_lost_word_reaches_its_attempt_and_nothing_is_settled(own_broker: OwnBroker) -> None:
    desk = Desk(own_broker.client)
    writer, settle = desk.writer("job"), desk.leased()
    own_broker.stop()
    writer.write("started", {}, urgent=False)
    eventually(lambda: writer.lost is not None, within_s=5)
    own_broker.start()
    with pytest.raises(redis.RedisError):
        writer.write("chunk", {})
    with pytest.raises(redis.RedisError):
        desk.outbox.flush(writer, settle)
    assert desk.leases() == 1, "it is not called done although its client misses a word"
    # The next attempt, and every other one, is not concerned.
    inbox = desk.reader.expect("other")
    desk.writer("other").write("done", {})
    assert inbox.get(timeout=5)[0].kind == "done"


def test_nobody_learns_of_a_lost_word_that_is_not_his(own_broker: OwnBroker) -> None:
    """The thread that writes for all does not fail for what another attempt lost."""
    desk = Desk(own_broker.client)
    mine, other = desk.writer("mine"), ReplyWriter(desk.outbox, "elsewhere", "other", 1)
    # The other's stream is no stream: only its words are refused.
    desk.plain.client.set(f"{{{GROUP}}}:reply:elsewhere", "x")
    desk.scripts.gate.clear()
    thread = threading.Thread(target=mine.write, args=("chunk", {}))
    thread.start()
    assert desk.scripts.at_gate.wait(5)
    other.write("chunk", {})
    desk.scripts.gate.set()
    thread.join()
    mine.write("done", {})
    assert mine.lost is None
    with pytest.raises(redis.ResponseError):
        other.write("done", {})

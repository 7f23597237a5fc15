"""Does a command that goes along with the next read of replies get its own answer, and the replies theirs?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty
from typing import Any

import pytest
import redis

from qosqueue.broker.address import connect
from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.broker.replies import ReplyReader
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.wire import Command, Wire
from qosqueue.settings import Settings
from tests.support.eventually import eventually

GROUP = "replies"


class Side:
    """A reader, a worker that writes to it, and how often a command went another way."""

    def __init__(self, reader: ReplyReader, client: redis.Redis) -> None:
        self.reader = reader
        self.others = 0
        self.wire = Wire(client)
        self._outbox = Outbox(Scripts(client, GROUP))

    def otherwise(self, commands: Sequence[Command]) -> list[Any]:
        self.others += 1
        return self.wire.exchange(commands)

    def ask(self, *commands: Command) -> list[Any]:
        return self.reader.exchange(commands, self.otherwise)

    def say(self, request: str, text: str) -> None:
        ReplyWriter(self._outbox, self.reader.address, request, 1).write("chunk", {"text": text})


@pytest.fixture
def side(settings: Settings, redis_client: redis.Redis) -> Iterator[Side]:
    reader = ReplyReader(lambda: connect(settings), GROUP)
    yield Side(reader, redis_client)
    reader.close()


def test_commands_are_answered_and_what_comes_then_is_heard(side: Side) -> None:
    inbox = side.reader.expect("r")
    for number in range(20):
        assert side.ask(("ECHO", f"a{number}"), ("ECHO", "b")) == [f"a{number}".encode(), b"b"]
        side.say("r", str(number))
        assert [reply.data["text"] for reply in inbox.get(timeout=5)] == [str(number)]
    assert side.others == 0


def test_an_error_is_the_answer_of_its_command_alone(side: Side) -> None:
    inbox = side.reader.expect("r")
    refused, echoed = side.ask(("NOSUCHCOMMAND",), ("ECHO", "b"))
    assert isinstance(refused, redis.ResponseError)
    assert echoed == b"b"
    side.say("r", "after")
    assert inbox.get(timeout=5)[0].data == {"text": "after"}


def test_a_read_that_nobody_waited_for_is_heard_by_who_comes(side: Side) -> None:
    """A refused request asks and leaves. The next command does not queue up behind its read."""
    assert side.ask(("ECHO", "refused")) == [b"refused"]
    assert side.ask(("ECHO", "next")) == [b"next"]
    assert side.others == 1
    inbox = side.reader.expect("r")
    side.say("r", "heard")
    assert inbox.get(timeout=5)[0].data == {"text": "heard"}


def test_a_read_that_brings_nothing_keeps_nobody_longer_than_asked(side: Side) -> None:
    inbox = side.reader.expect("r")
    side.ask(("ECHO", "x"))
    with pytest.raises(Empty):
        inbox.get(timeout=0.01)
    side.say("r", "later")
    assert inbox.get(timeout=5)[0].data == {"text": "later"}


def test_while_another_thread_reads_commands_go_their_own_way(side: Side) -> None:
    inbox = side.reader.expect("waits")
    heard: list[Any] = []
    waiting = threading.Thread(target=lambda: heard.extend(inbox.get(timeout=20)))
    waiting.start()
    eventually(lambda: side.ask(("ECHO", "x")) == [b"x"] and side.others >= 1, within_s=10)
    side.say("waits", "at last")
    waiting.join(20)
    assert [reply.data for reply in heard] == [{"text": "at last"}]


@pytest.mark.parametrize("owed", [False, True])
def test_a_killed_connection_costs_one_exchange_at_most(side: Side, redis_client: redis.Redis, owed: bool) -> None:
    inbox = side.reader.expect("r")
    side.ask(("ECHO", "x"))
    if not owed:
        with pytest.raises(Empty):
            inbox.get(timeout=0.2)
    redis_client.client_kill_filter(_type="normal", skipme=True)
    failures = 0
    for _ in range(3):
        try:
            assert side.ask(("ECHO", "again")) == [b"again"]
        except redis.RedisError:
            failures += 1
    assert failures <= (not owed), "what is known to be dead is not used; what was alive just now may be"
    side.say("r", "still")
    assert inbox.get(timeout=5)[0].data == {"text": "still"}


def test_a_read_whose_connection_died_unheard_keeps_nobody_waiting(side: Side, redis_client: redis.Redis) -> None:
    """A refused request asked and left, then the server closed the connection: who waits next reads anew, at once."""
    side.ask(("ECHO", "refused"))
    redis_client.client_kill_filter(_type="normal", skipme=True)
    waited: list[float | None] = []
    side.reader._closed.wait = lambda timeout=None: bool(waited.append(timeout))  # type: ignore[method-assign]
    inbox = side.reader.expect("r")
    side.say("r", "heard")
    assert inbox.get(timeout=5)[0].data == {"text": "heard"}
    assert waited == []


def test_a_library_that_was_flushed_is_loaded_again(side: Side, redis_client: redis.Redis) -> None:
    scripts = Scripts(redis_client, GROUP)
    redis_client.function_flush()
    (answer,) = scripts.run([scripts.command("withdraw", "nobody")], exchange=as_exchange(side))
    assert answer == 0
    assert side.others == 0


def as_exchange(side: Side) -> Callable[[Sequence[Command]], list[Any]]:
    return lambda commands: side.ask(*commands)

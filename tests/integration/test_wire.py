"""Do exchanges with Redis keep to their own answers, and survive what happens to idle connections?"""

from __future__ import annotations

import os
import threading

import pytest
import redis

from qosqueue.broker import wire as wire_module
from qosqueue.broker.wire import Wire
from tests.support.eventually import eventually
from tests.support.road import OwnBroker


@pytest.fixture
def wire(redis_client: redis.Redis) -> Wire:
    return Wire(redis_client)


def test_an_error_is_one_of_the_answers_and_the_others_keep_their_places(wire: Wire) -> None:
    first, refused, last = wire.exchange([("SET", "x", "1"), ("LPUSH", "x", "y"), ("GET", "x")])
    assert (first, last) == (b"OK", b"1")
    assert isinstance(refused, redis.ResponseError)
    assert wire.exchange([("GET", "x")]) == [b"1"]


def test_threads_never_see_each_others_answers(wire: Wire) -> None:
    wrong: list[object] = []

    def talk(number: int) -> None:
        for step in range(200):
            text = f"{number}-{step}".encode()
            answers = wire.exchange([("ECHO", text), ("ECHO", text + b"!")])
            if answers != [text, text + b"!"]:
                wrong.append(answers)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(wire._idle) <= 8


@pytest.mark.parametrize("fresh_s", [0.0, 60.0])
def test_a_connection_that_was_closed_while_idle_is_opened_again(
    wire: Wire, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, fresh_s: float
) -> None:
    monkeypatch.setattr(wire_module, "FRESH_S", fresh_s)
    wire.exchange([("PING",)])
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert wire.exchange([("ECHO", "x")]) == [b"x"]


def test_what_may_have_been_heard_in_part_is_not_sent_twice(
    wire: Wire, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "FRESH_S", 60.0)
    wire.exchange([("PING",)])
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(redis.ConnectionError):
        wire.exchange([("INCR", "sent"), ("SET", "large", "x" * 100_000)])
    assert wire.exchange([("INCR", "sent")]) == [1]


def test_a_broker_that_is_away_is_told_at_once_and_one_that_is_back_is_used(own_broker: OwnBroker) -> None:
    wire = Wire(own_broker.client())
    wire.exchange([("PING",)])
    own_broker.stop()
    with pytest.raises(redis.RedisError):
        wire.exchange([("PING",)])
    own_broker.start()
    assert wire.exchange([("ECHO", "x")]) == [b"x"]


def test_an_exchange_that_was_cut_short_leaves_no_answer_for_the_next(
    wire: Wire, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(wire_module, "answer_of", cut)
    with pytest.raises(KeyboardInterrupt):
        wire.exchange([("ECHO", "old")])
    monkeypatch.undo()
    assert wire.exchange([("ECHO", "new")]) == [b"new"]


def test_a_forked_child_does_not_speak_on_its_parents_connections(wire: Wire, redis_client: redis.Redis) -> None:
    wire.exchange([("PING",)])
    ours = wire.exchange([("CLIENT", "ID")])[0]
    child = os.fork()
    if child == 0:
        try:
            wire.exchange([("SET", "child", wire.exchange([("CLIENT", "ID")])[0])])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs = eventually(lambda: redis_client.get("child"), within_s=5)
    assert int(theirs) != ours  # type: ignore[arg-type]
    assert wire.exchange([("CLIENT", "ID")])[0] == ours

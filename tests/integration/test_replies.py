"""Do tokens reach the call that waits for them: in order, for many calls, and over a lost connection?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty

import pytest
import redis

from qosqueue.broker.address import connect
from qosqueue.broker.replies import KEEP_S, Reply, ReplyReader, ReplyWriter, stream_key
from qosqueue.settings import Settings
from tests.support.eventually import eventually

GROUP = "replies"
Connect = Callable[[], redis.Redis]


@pytest.fixture
def connecting(settings: Settings) -> Connect:
    return lambda: connect(settings)


@pytest.fixture
def reader(connecting: Connect) -> Iterator[ReplyReader]:
    made = ReplyReader(connecting, GROUP)
    yield made
    made.close()


def writer(client: redis.Redis, reader: ReplyReader, request: str, fence: int = 1) -> ReplyWriter:
    return ReplyWriter(client, GROUP, reader.address, request, fence)


def test_events_come_in_order_with_their_fence(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    ours = writer(redis_client, reader, "r", fence=3)
    ours.write("started", {"worker": "w"})
    for number in range(600):
        ours.write("chunk", {"n": number, "text": "é\u0000😀"})
    ours.write("done", {})
    got = [events.get(timeout=5) for _ in range(602)]
    assert got[0] == Reply("r", 3, "started", {"worker": "w"})
    assert [reply.data["n"] for reply in got[1:-1]] == list(range(600))
    assert got[1].data["text"] == "é\u0000😀"
    assert got[-1].kind == "done"
    # What was read is dropped: a stream that is followed does not grow.
    eventually(lambda: redis_client.xlen(stream_key(GROUP, reader.address)) == 0, within_s=5)


def test_a_malformed_entry_ends_nobody_elses_answer(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    redis_client.xadd(stream_key(GROUP, reader.address), {"id": "r", "kind": "chunk", "data": "{}"})
    redis_client.xadd(stream_key(GROUP, reader.address), {"id": "r", "fence": "1", "kind": "chunk", "data": "{"})
    writer(redis_client, reader, "r").write("chunk", {"n": 1})
    assert events.get(timeout=5).data == {"n": 1}


def test_what_runs_can_end_at_maxmemory(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    ours = writer(redis_client, reader, "r")
    redis_client.config_set("maxmemory", 1)
    try:
        ours.write("started", {"worker": "w"})
        ours.write("done", {})
        assert [events.get(timeout=5).kind for _ in range(2)] == ["started", "done"]
    finally:
        redis_client.config_set("maxmemory", 0)


def test_many_calls_get_their_own_and_nothing_else(redis_client: redis.Redis, reader: ReplyReader) -> None:
    queues = {f"r{number}": reader.expect(f"r{number}") for number in range(50)}

    def write(part: int) -> None:
        for number in range(part, 50, 5):
            for step in range(20):
                writer(redis_client, reader, f"r{number}").write("chunk", {"step": step})

    threads = [threading.Thread(target=write, args=(part,)) for part in range(5)]
    for thread in threads:
        thread.start()
    for request, events in queues.items():
        replies = [events.get(timeout=10) for _ in range(20)]
        assert [(reply.request_id, reply.data["step"]) for reply in replies] == [(request, n) for n in range(20)]
    for thread in threads:
        thread.join()


def test_a_call_that_is_forgotten_gets_nothing_more(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events, other = reader.expect("r"), reader.expect("other")
    reader.forget("r")
    reader.forget("never-expected")
    writer(redis_client, reader, "r").write("done", {})
    writer(redis_client, reader, "other").write("done", {})
    assert other.get(timeout=5).request_id == "other"
    with pytest.raises(Empty):
        events.get_nowait()


def test_the_reader_comes_back_after_its_connection_was_killed(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    ours = writer(redis_client, reader, "r")
    ours.write("started", {})
    assert events.get(timeout=5).kind == "started"
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    for number in range(10):
        ours.write("chunk", {"n": number})
    assert [events.get(timeout=5).data["n"] for _ in range(10)] == list(range(10))


@pytest.mark.parametrize("kind", ["started", "done", "failed"])
def test_a_stream_that_nobody_reads_expires(redis_client: redis.Redis, kind: str) -> None:
    ours = ReplyWriter(redis_client, GROUP, "nobody", "r", 1)
    ours.write(kind, {})  # type: ignore[arg-type]
    ours.write("chunk", {})
    assert 0 < redis_client.ttl(stream_key(GROUP, "nobody")) <= KEEP_S  # type: ignore[operator]


def test_each_reader_has_its_own_address_and_stops_when_closed(connecting: Connect) -> None:
    readers = [ReplyReader(connecting, GROUP) for _ in range(20)]
    assert len({each.address for each in readers}) == 20
    readers[0].expect("r")
    readers[0].close()
    assert not [thread for thread in threading.enumerate() if thread.name == "replies"]

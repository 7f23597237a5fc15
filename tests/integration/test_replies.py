"""Do tokens reach the call that waits for them: in order, for many calls, and over a lost connection?"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from queue import Empty

import pytest
import redis

from qosqueue.broker import wire
from qosqueue.broker.address import connect
from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.broker.replies import KEEP_S, Inbox, Kind, Reply, ReplyReader, stream_key
from qosqueue.broker.scripts import Scripts
from qosqueue.settings import Settings

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
    return ReplyWriter(outbox_of(client), reader.address, request, fence)


@cache
def outbox_of(client: redis.Redis) -> Outbox:
    return Outbox(Scripts(client, GROUP))


def take(inbox: Inbox, count: int, within_s: float = 10) -> list[Reply]:
    """The next `count` events, in however many batches they come."""
    found: list[Reply] = []
    while len(found) < count:
        found += inbox.get(timeout=within_s)
    assert len(found) == count
    return found


def test_events_come_in_order_with_their_fence(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    ours = writer(redis_client, reader, "r", fence=3)
    ours.write("started", {"worker": "w"})
    for number in range(600):
        ours.write("chunk", {"n": number, "text": "é\u0000😀"})
    ours.write("done", {})
    got = take(events, 602)
    assert got[0] == Reply("r", 3, "started", {"worker": "w"})
    assert [reply.data["n"] for reply in got[1:-1]] == list(range(600))
    assert got[1].data["text"] == "é\u0000😀"
    assert got[-1].kind == "done"
    # What was read is dropped: a stream that is followed does not grow.
    with pytest.raises(Empty):
        events.get(timeout=0.05)
    with pytest.raises(Empty):
        events.get(timeout=0.05)
    assert redis_client.xlen(stream_key(GROUP, reader.address)) == 0


def test_a_malformed_entry_ends_nobody_elses_answer(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    key = stream_key(GROUP, reader.address)
    for fields in ({"id": "r"}, {"events": "{"}, {"events": "3"}, {"events": '[["r", 1]]'}, {"events": "\udcff"}):
        redis_client.xadd(key, {name: value.encode(errors="surrogateescape") for name, value in fields.items()})
    writer(redis_client, reader, "r").write("chunk", {"n": 1})
    assert take(events, 1)[0].data == {"n": 1}


def test_what_runs_can_end_at_maxmemory(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events = reader.expect("r")
    ours = writer(redis_client, reader, "r")
    redis_client.config_set("maxmemory", 1)
    try:
        ours.write("started", {"worker": "w"})
        ours.write("done", {})
        assert [reply.kind for reply in take(events, 2)] == ["started", "done"]
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
        replies = take(events, 20)
        assert [(reply.request_id, reply.data["step"]) for reply in replies] == [(request, n) for n in range(20)]
    for thread in threads:
        thread.join()


@pytest.mark.alone
def test_many_threads_wait_at_once_and_none_is_left_asleep(redis_client: redis.Redis, reader: ReplyReader) -> None:
    """Turns at reading go round while calls come and go: each answer arrives far sooner than any time-out."""
    late: list[float] = []

    def call(number: int) -> None:
        for step in range(30):
            name = f"r{number}-{step}"
            events = reader.expect(name)
            outbox.put(ReplyWriter(outbox, reader.address, name, 1), [name, 1, "done", {}], urgent=True)
            asked = time.perf_counter()
            take(events, 1)
            late.append(time.perf_counter() - asked)
            reader.forget(name)

    outbox = outbox_of(redis_client)
    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(late) == 360
    assert statistics.quantiles(late, n=100)[98] < 1.0


def test_a_call_that_is_forgotten_gets_nothing_more(redis_client: redis.Redis, reader: ReplyReader) -> None:
    events, other = reader.expect("r"), reader.expect("other")
    reader.forget("r")
    reader.forget("never-expected")
    writer(redis_client, reader, "r").write("done", {})
    writer(redis_client, reader, "other").write("done", {})
    assert take(other, 1)[0].request_id == "other"
    assert events.batches.empty()


def test_the_reader_comes_back_after_its_connection_was_killed(
    redis_client: redis.Redis, reader: ReplyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The writer's connection is killed too: it notices before it sends.
    monkeypatch.setattr(wire, "FRESH_S", 0.0)
    events = reader.expect("r")
    ours = writer(redis_client, reader, "r")
    ours.write("started", {})
    assert take(events, 1)[0].kind == "started"
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    for number in range(10):
        ours.write("chunk", {"n": number})
    found: list[Reply] = []
    while len(found) < 10:
        try:
            found += events.get(timeout=1)
        except Empty:
            continue  # the reader has just noticed that its connection is gone
    assert [reply.data["n"] for reply in found] == list(range(10))


@pytest.mark.parametrize("kind", ["started", "done", "failed"])
def test_a_stream_that_nobody_reads_expires(redis_client: redis.Redis, kind: Kind) -> None:
    ours = ReplyWriter(outbox_of(redis_client), "nobody", "r", 1)
    ours.write(kind, {})
    ours.write("chunk", {})
    assert 0 < redis_client.ttl(stream_key(GROUP, "nobody")) <= KEEP_S  # type: ignore[operator]


def test_each_reader_has_its_own_address_and_no_thread(connecting: Connect) -> None:
    before = threading.active_count()
    readers = [ReplyReader(connecting, GROUP) for _ in range(20)]
    assert len({each.address for each in readers}) == 20
    readers[0].expect("r")
    assert threading.active_count() == before
    readers[0].close()

"""How do tokens get from the worker to the web process that waits for them?

One stream in Redis for each web process, read by one of the threads that wait, which hands events to the others: no
connection per request, no polling, no result backend. An event carries the fence of the attempt that wrote it.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from time import monotonic
from typing import Any, Literal, NamedTuple

import redis
import structlog
from pydantic_core import from_json

from qosqueue.broker.wire import FRESH_S, SENT_WHOLE_BYTES, Command, Exchange, answer_of, packed_commands, revive

Kind = Literal["started", "chunk", "done", "failed"]

# A web process that does not read for so long, or by so many events, is gone: its stream must not grow for ever.
KEEP_EVENTS = 20_000
KEEP_S = 300
READ_AT_ONCE = 500
# What was read is dropped after so many entries, or as soon as nothing comes.
TRIM_EVERY = 64
BLOCK_MS = 1_000
# Of a read that is asked for with a request: whoever hears it may have less time than it has.
OWED_BLOCK_MS = 100
RETRY_S = 0.5

log = structlog.get_logger(__name__)


class Reply(NamedTuple):
    """One event of an attempt: its request, its fence, what happened, and the data of it."""

    request_id: str
    fence: int
    kind: Kind
    data: dict[str, Any]


def stream_key(group: str, address: str) -> str:
    """The stream of the web process that is reached under `address`."""
    return f"{{{group}}}:reply:{address}"


class Inbox:
    """Where the events of one request appear. One thread waits at it."""

    def __init__(self, reader: ReplyReader) -> None:
        self._reader = reader
        # An empty batch is no news: it asks the thread that waits here to read the stream for all.
        self.batches: queue.SimpleQueue[list[Reply]] = queue.SimpleQueue()

    def get(self, timeout: float) -> list[Reply]:
        """What is ready, as soon as something is; raises queue.Empty after `timeout` seconds."""
        return self._reader.wait(self, timeout)


class ReplyReader:
    """The web process's side: one stream, one connection, many waiting calls, no thread of its own.

    One of the threads that wait reads the stream for all; when it has what it waited for, another takes its turn. So
    a lone answer reaches its thread directly.
    """

    def __init__(self, connect: Callable[[], redis.Redis], group: str) -> None:
        self.address = secrets.token_hex(8)
        self._key = stream_key(group, self.address)
        self._connect = connect
        self._expected: dict[str, Inbox] = {}
        self._asleep: dict[Inbox, None] = {}
        self._turn = threading.Lock()
        self._closed = threading.Event()
        # What follows belongs to whoever has the turn.
        self._last = "0"
        self._untrimmed = 0
        self._idle = False
        # Answers of a read that was asked for and not yet heard: that of the stream is the last.
        self._owed = 0
        self._used_s = 0.0

    def expect(self, request_id: str) -> Inbox:
        """Where the events of a request will appear. Call it before the request is published."""
        inbox = self._expected[request_id] = Inbox(self)
        return inbox

    def forget(self, request_id: str) -> None:
        """Nobody waits for this request any more; its late events are dropped."""
        self._expected.pop(request_id, None)

    def close(self) -> None:
        """Stop reading. Who still waits hears nothing more."""
        self._closed.set()

    def wait(self, inbox: Inbox, timeout: float) -> list[Reply]:
        """The next batch in `inbox`; raises queue.Empty after `timeout` seconds."""
        until_s = monotonic() + timeout
        while True:
            left_s = until_s - monotonic()
            try:
                batch = inbox.batches.get_nowait()
            except queue.Empty:
                if left_s <= 0:
                    raise
                batch = [] if self._read_for_all(left_s) else self._sleep(inbox, left_s)
            if batch:
                return batch

    def exchange(self, commands: Sequence[Command], otherwise: Exchange) -> list[Any]:
        """The answers to commands that will be answered on the stream, too, with the next read of it asked for in the
        same write, which spares the broker and us a turn. If another thread reads now, `otherwise` exchanges them.

        Raises redis.RedisError, as Wire.exchange does.
        """
        if self._owed or not self._turn.acquire(blocking=False):
            return otherwise(commands)
        try:
            if self._owed:
                return otherwise(commands)
            packed = packed_commands(commands)
            try:
                if monotonic() - self._used_s > FRESH_S:
                    revive(self._connection)
                self._ask(OWED_BLOCK_MS, packed)
            except redis.RedisError:
                self._disconnect()
                if len(packed) > SENT_WHOLE_BYTES:
                    raise
                # It was closed while it was idle: nobody heard of it (as in Wire.exchange).
                return otherwise(commands)
            try:
                return [answer_of(self._connection) for _ in commands]
            except redis.RedisError:
                self._disconnect()
                raise
        finally:
            self._turn.release()
            self._wake_one()

    def _read_for_all(self, at_most_s: float) -> bool:
        """Read once, if it is nobody else's turn; whether it was ours."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._read(at_most_s)
        finally:
            self._turn.release()
            self._wake_one()
        return True

    def _sleep(self, inbox: Inbox, at_most_s: float) -> list[Reply]:
        """Wait until somebody else has read something for us. Empty: it is our turn to read."""
        self._asleep[inbox] = None
        # In this order: whoever let go of the turn meanwhile either finds us asleep, or we find the turn free.
        if not self._turn.locked():
            batch: list[Reply] = []
        else:
            try:
                batch = inbox.batches.get(timeout=at_most_s)
            except queue.Empty:
                batch = []
        if self._asleep.pop(inbox, self) is self and batch:
            # We were asked to read, and leave with our answer: somebody else must.
            self._wake_one()
        return batch

    def _wake_one(self) -> None:
        try:
            inbox, _ = self._asleep.popitem()
        except KeyError:
            return
        inbox.batches.put([])

    @cached_property
    def _connection(self) -> Any:
        # With the first wait, not with the wiring: gunicorn forks between the two.
        return self._connect().connection_pool.make_connection()

    def _read(self, at_most_s: float) -> None:
        """Read what there is, or wait for it, and hand it out; the turn is ours."""
        was_owed = self._owed > 0
        try:
            if not was_owed:
                self._ask(max(1, int(min(at_most_s * 1000, BLOCK_MS))))
            *_, answer = [answer_of(self._connection) for _ in range(self._owed)]
            self._owed, self._used_s = 0, monotonic()
            if isinstance(answer, redis.ResponseError):
                raise answer
        except redis.RedisError as error:
            self._disconnect()
            log.warning("replies cannot be read now", error=str(error))
            # An answer that was owed for long may have lost its connection meanwhile: that says nothing about now.
            if not was_owed:
                self._closed.wait(min(at_most_s, RETRY_S))
            return
        self._idle = not answer
        for entry_id, fields in _entries(answer):
            self._last = entry_id
            self._untrimmed += 1
            self._hand_out(entry_id, fields)

    def _ask(self, block_ms: int, before: bytes = b"") -> None:
        """Ask for what the stream holds, behind what is `before`; the turn is ours."""
        read: list[Command] = [
            ("XREAD", "COUNT", READ_AT_ONCE, "BLOCK", block_ms, "STREAMS", self._key, self._last),
        ]
        if self._untrimmed > TRIM_EVERY or (self._idle and self._untrimmed):
            # What was handed out is of no more use: the stream stays as short as its readers are quick.
            read.insert(0, ("XTRIM", self._key, "MINID", _next_id(self._last)))
            self._untrimmed = 0
        self._connection.send_packed_command([before + packed_commands(read)], check_health=False)
        self._owed = len(read)

    def _disconnect(self) -> None:
        self._connection.disconnect()
        self._owed = 0

    def _hand_out(self, entry_id: str, fields: list[bytes]) -> None:
        told: dict[str, list[Reply]] = {}
        try:
            for word in from_json(fields[fields.index(b"events") + 1]):
                reply = Reply(*word)
                if reply.request_id in told:
                    told[reply.request_id].append(reply)
                else:
                    told[reply.request_id] = [reply]
        except (ValueError, TypeError):
            # One entry that no worker of ours wrote must not end the answers of all others.
            log.error("an entry of the reply stream is malformed", entry=entry_id, fields=fields[::2])
        for request_id, replies in told.items():
            inbox = self._expected.get(request_id)
            if inbox is not None:
                inbox.batches.put(replies)


def _entries(answer: Any) -> list[tuple[str, list[bytes]]]:
    """The entries of the one stream that was read, under either version of the protocol: id, then field, value, …"""
    if not answer:
        return []
    (entries,) = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer]
    return [(entry_id.decode(), fields) for entry_id, fields in entries]


def _next_id(entry_id: str) -> str:
    stamp, _, number = entry_id.partition("-")
    return f"{stamp}-{int(number) + 1}"

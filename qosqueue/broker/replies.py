"""How do tokens get from the worker to the web process that waits for them?

One stream in Redis for each web process, read by one thread that hands events to the waiting calls: no connection
per request, no polling, no result backend. An event carries the fence of the attempt that wrote it.
"""

from __future__ import annotations

import json
import queue
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import redis
import structlog

from qosqueue.broker.scripts import source

Kind = Literal["started", "chunk", "done", "failed"]

# A web process that does not read for so long, or by so many events, is gone: its stream must not grow for ever.
KEEP_EVENTS = 20_000
KEEP_S = 300
READ_AT_ONCE = 500
BLOCK_MS = 1_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Reply:
    """One event of an attempt: its request, its fence, what happened, and the data of it."""

    request_id: str
    fence: int
    kind: Kind
    data: dict[str, Any]


def stream_key(group: str, address: str) -> str:
    """The stream of the web process that is reached under `address`."""
    return f"{{{group}}}:reply:{address}"


class ReplyWriter:
    """The worker's side: writes events for one request. Raises redis.RedisError when Redis is away."""

    def __init__(self, client: redis.Redis, group: str, address: str, request_id: str, fence: int) -> None:
        self._append = client.register_script(source("reply"))
        self._key = stream_key(group, address)
        self._head = {"id": request_id, "fence": fence}

    def write(self, kind: Kind, data: dict[str, Any]) -> None:
        """Append one event. Without a reader the stream expires by itself."""
        fields = {**self._head, "kind": kind, "data": json.dumps(data)}
        flat: list[Any] = [part for field in fields.items() for part in field]
        self._append(keys=[self._key], args=[KEEP_EVENTS, KEEP_S, *flat])


class ReplyReader:
    """The web process's side: one thread, one stream, many waiting calls."""

    def __init__(self, connect: Callable[[], redis.Redis], group: str) -> None:
        self.address = secrets.token_hex(8)
        self._key = stream_key(group, self.address)
        self._connect = connect
        self._waiting: dict[str, queue.SimpleQueue[Reply]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def expect(self, request_id: str) -> queue.SimpleQueue[Reply]:
        """The queue in which the events of a request will appear. Call it before the request is published."""
        events: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        with self._lock:
            self._waiting[request_id] = events
            if self._thread is None:
                # Started by the first call, not by the import: gunicorn forks between the two.
                self._thread = threading.Thread(target=self._run, name="replies", daemon=True)
                self._thread.start()
        return events

    def forget(self, request_id: str) -> None:
        """Nobody waits for this request any more; its late events are dropped."""
        with self._lock:
            self._waiting.pop(request_id, None)

    def close(self) -> None:
        """Stop reading; returns when the thread has ended."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(2 * BLOCK_MS / 1000)

    def _run(self) -> None:
        client = self._connect()
        last = trimmed = "0"
        while not self._closed.is_set():
            try:
                with client.pipeline(transaction=False) as pipe:
                    if last != trimmed:
                        # What was handed out is of no more use: the stream stays as short as the reader is quick.
                        pipe.xtrim(self._key, minid=_next_id(last), approximate=False)
                    pipe.xread({self._key: last}, count=READ_AT_ONCE, block=BLOCK_MS)
                    answer: Any = pipe.execute()[-1]
                trimmed = last
                for entry_id, fields in _entries(answer):
                    last = entry_id
                    self._hand_out(entry_id, fields)
            except redis.RedisError as error:
                log.warning("replies cannot be read now", error=str(error))
                self._closed.wait(0.5)

    def _hand_out(self, entry_id: str, fields: dict[bytes, bytes]) -> None:
        try:
            kind: Any = fields[b"kind"].decode()
            reply = Reply(fields[b"id"].decode(), int(fields[b"fence"]), kind, json.loads(fields[b"data"]))
        except (KeyError, ValueError):
            # One entry that no worker of ours wrote must not end the answers of all others.
            log.error("an entry of the reply stream is malformed", entry=entry_id, fields=sorted(map(str, fields)))
            return
        events = self._waiting.get(reply.request_id)
        if events is not None:
            events.put(reply)


def _entries(answer: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """The entries of the one stream that was read, under either version of the protocol."""
    if not answer:
        return []
    streams = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer]
    flat: list[tuple[str, dict[bytes, bytes]]] = []
    for entries in streams:
        while entries and isinstance(entries[0], list):  # protocol 3 nests once more
            entries = entries[0]
        flat.extend((entry_id.decode(), fields) for entry_id, fields in entries)
    return flat


def _next_id(entry_id: str) -> str:
    stamp, _, number = entry_id.partition("-")
    return f"{stamp}-{int(number) + 1}"

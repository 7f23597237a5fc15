"""How do a worker's words reach the web processes that wait: soon, and with as few writes as there is something to say?

What an attempt says first (that it began, an empty chunk) is soon followed by something that its client can use: it
waits for that, but for no longer than LINGER_S. What is urgent goes at once and takes along all that waits. While one
thread writes, the others' words gather, and go together in the next write.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import redis
import structlog
from pydantic_core import to_json

from qosqueue.broker.library import function
from qosqueue.broker.replies import KEEP_EVENTS, KEEP_S, Kind, stream_key
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.wire import Command

LINGER_S = 0.005
# While words come the thread looks round every LINGER_S, for waking it for each of them would cost more; after so many
# quiet looks it sleeps.
QUIET_TICKS = 200

log = structlog.get_logger(__name__)


class ReplyWriter:
    """What one attempt says to the web process at `address`. Raises redis.RedisError once a word may be lost."""

    def __init__(self, outbox: Outbox, address: str, request_id: str, fence: int) -> None:
        self.address = address
        self.lost: redis.RedisError | None = None
        self._outbox = outbox
        self._request_id = request_id
        self._fence = fence

    def write(self, kind: Kind, data: dict[str, Any], *, urgent: bool = True) -> None:
        """Say what happened. What is not urgent goes with the next words, or within LINGER_S."""
        self.check()
        self._outbox.put(self, [self._request_id, self._fence, kind, data], urgent=urgent)
        self.check()

    def check(self) -> None:
        """Raise what kept a word from arriving, if any was."""
        if self.lost is not None:
            raise self.lost


class Outbox:
    """The words of all attempts of one process. Any thread may use it; `put` never waits for another one's write."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._waiting: deque[tuple[ReplyWriter, list[Any]]] = deque()
        self._urgent = False
        self._writing = threading.Lock()
        self._lingers = threading.Event()
        self._asleep = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, writer: ReplyWriter, word: list[Any], *, urgent: bool) -> None:
        """Take a word. If it cannot be brought to Redis, its writer's `lost` says so, now or later."""
        self._waiting.append((writer, word))
        if not urgent:
            self._let_linger()
            return
        self._urgent = True
        self._write_urgent()

    def flush(self, writer: ReplyWriter | None = None, *ending: Command) -> Any:
        """Bring all that waits to Redis, then, in the same write, carry out `ending`; the answer to the last of it.

        Raises redis.RedisError if a word of `writer` may be lost (then nothing is ended) or if nobody knows whether
        it was settled.
        """
        with self._writing:
            if writer is not None:
                writer.check()
            answer = self._write(*ending)
        self._write_urgent()
        if isinstance(answer, redis.RedisError):
            raise answer
        if writer is not None:
            writer.check()
        return answer

    def _write_urgent(self) -> None:
        # Whoever wrote looks again after letting go of the lock: what came meanwhile is not left behind.
        while self._urgent and self._writing.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._writing.release()

    def _write(self, *ending: Command) -> Any:
        """Write everything that waits now; the lock is held. The last answer, or the error that it met."""
        self._urgent = False
        writers: list[ReplyWriter] = []
        streams: dict[str, list[list[Any]]] = {}
        while self._waiting:
            writer, word = self._waiting.popleft()
            writers.append(writer)
            streams.setdefault(writer.address, []).append(word)
        commands = [self._append(address, words) for address, words in streams.items()]
        commands += ending
        if not commands:
            return None
        try:
            answers = self._scripts.run(commands)
        except redis.RedisError as error:
            answers = [error] * len(commands)
        refused = {
            address: answer
            for address, answer in zip(streams, answers, strict=False)
            if isinstance(answer, redis.RedisError)
        }
        for writer in writers if refused else ():
            writer.lost = writer.lost or refused.get(writer.address)
        return answers[-1]

    def _append(self, address: str, words: list[list[Any]]) -> Command:
        key = stream_key(self._scripts.group, address)
        return ("FCALL", function("reply"), 1, key, KEEP_EVENTS, KEEP_S, "events", to_json(words))

    def _let_linger(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
                    self._thread.start()
        if self._asleep:
            self._lingers.set()

    def _run(self) -> None:
        pause = threading.Event()
        quiet = 0
        while True:
            if quiet > QUIET_TICKS:
                # In this order: a word that was put before this either is seen below, or sets the event.
                self._lingers.clear()
                self._asleep = True
                if not self._waiting:
                    self._lingers.wait()
                self._asleep = False
                quiet = 0
            pause.wait(LINGER_S)
            quiet += 1
            if self._waiting:
                quiet = 0
                with self._writing:
                    self._write()
                self._write_urgent()

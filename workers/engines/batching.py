"""How are texts of several requests computed together? What waits at once is one batch, bounded in size and in waiting.

One thread computes. It takes a text of each waiting request in turn until the batch is full, so a request with a
thousand texts lets one with a single text pass.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from qosqueue.errors import EngineError

Tokens = Sequence[int]
Compute = Callable[[list[Tokens]], list[bytes]]


@dataclass(frozen=True)
class Bounds:
    """The most texts and tokens of one batch, and how long its first text waits for others, in s.

    It does not wait once `requests` are there: no more can come.
    """

    texts: int
    tokens: int
    wait_s: float
    requests: int


@dataclass(eq=False)
class _Asked:
    """The texts of one request: those before `taken` are in a batch or computed."""

    texts: list[Tokens]
    stop: threading.Event
    vectors: list[bytes] = field(default_factory=list)
    taken: int = 0
    came_s: float = field(default_factory=monotonic)
    fault: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Batcher:
    """Computes texts in batches on a thread of its own, from `start` to `close`."""

    def __init__(self, name: str, compute: Compute, bounds: Bounds) -> None:
        self._compute = compute
        self._bounds = bounds
        self._line: deque[_Asked] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"batches-{name}", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def close(self) -> None:
        """Compute what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def run(self, texts: list[Tokens], stop: threading.Event) -> list[bytes]:
        """The vectors of `texts`, in their order; fewer, within one batch, once `stop` is set.

        Raises EngineError if they cannot be computed.
        """
        asked = _Asked(texts, stop)
        with self._changed:
            if self._closed:
                raise EngineError("the engine is closed")
            self._line.append(asked)
            self._changed.notify()
        asked.over.wait()
        if asked.fault is not None:
            raise EngineError(f"a batch failed: {asked.fault}") from asked.fault
        return list(asked.vectors)

    def _run(self) -> None:
        while batch := self._next():
            try:
                vectors = self._compute([asked.texts[place] for asked, place in batch])
            except Exception as error:
                self._fail(batch, error)
                continue
            for (asked, _), vector in zip(batch, vectors, strict=True):
                asked.vectors.append(vector)
                if len(asked.vectors) == len(asked.texts):
                    asked.over.set()

    def _next(self) -> list[tuple[_Asked, int]]:
        """The next batch, each text with its request and its place there; none once all is done and this is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._line or self._closed)
                if not self._line:
                    return []
                left_s = self._line[0].came_s + self._bounds.wait_s - monotonic()
                self._changed.wait_for(self._is_full, max(0.0, left_s))
                batch = self._take()
                if batch:
                    return batch

    def _is_full(self) -> bool:
        waiting = [asked.texts[asked.taken :] for asked in self._line]
        texts, tokens = sum(map(len, waiting)), sum(len(text) for texts in waiting for text in texts)
        bounds = self._bounds
        return self._closed or texts >= bounds.texts or tokens >= bounds.tokens or len(waiting) >= bounds.requests

    def _take(self) -> list[tuple[_Asked, int]]:
        """Texts for one batch, of each request in turn. What is to stop leaves the line; the lock is held."""
        batch: list[tuple[_Asked, int]] = []
        tokens = 0
        while self._line and len(batch) < self._bounds.texts:
            asked = self._line[0]
            if asked.stop.is_set():
                self._line.popleft()
                # What of it is in this batch already is computed, and read by nobody.
                asked.over.set()
                continue
            tokens += len(asked.texts[asked.taken])
            if batch and tokens > self._bounds.tokens:
                break
            batch.append((asked, asked.taken))
            asked.taken += 1
            self._line.popleft()
            if asked.taken < len(asked.texts):
                self._line.append(asked)
        return batch

    def _fail(self, batch: list[tuple[_Asked, int]], error: Exception) -> None:
        with self._changed:
            for asked in {asked for asked, _ in batch}:
                if asked in self._line:
                    self._line.remove(asked)
                asked.fault = error
                asked.over.set()

"""How do requests take turns on an engine's slots? First come, first served, never more than `slots` at once."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Event, Lock

from qosqueue.errors import EngineError
from qosqueue_workers.engines.base import CANCELLED, NOTHING_DONE, Completion, Done, Emit, Engine, EngineRequest, Health

log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 60.0


class _Turn:
    """One request from its arrival to its end: `admitted` once it has a slot; `stop` ends it, `wake` its waiting."""

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.stop = Event()
        self.admitted = False
        self.cancelled = False
        self.wake: Callable[[], None] = lambda: None


class SlottedEngine(Engine):
    """Slots, the line before them, cancelling and closing; a subclass only opens, generates and shuts."""

    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self._slots = slots
        self._free = slots
        self._turns: dict[str, _Turn] = {}
        self._line: deque[_Turn] = deque()
        self._changed = Condition()
        self._opening = Lock()  # apart from the other: health must answer while a large model loads
        self._loaded = self._closed = False
        self._fault = ""
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=f"engine-{name}")

    @abstractmethod
    def _open(self) -> None:
        """Load the model; raises EngineError with one clear line."""

    @abstractmethod
    def _generate(self, request: EngineRequest, emit: Emit, stop: Event) -> Completion:
        """Serve one request; once `stop` is set, end within one step with finish reason `cancelled`."""

    @abstractmethod
    def _shut(self) -> None:
        """Free what `_open` took; called once, when nothing runs any more."""

    @abstractmethod
    def _describe(self) -> str:
        """What kind of engine this is, for a person."""

    def load(self) -> None:
        with self._opening:
            if self._closed:
                raise EngineError(f"model {self.name}: the engine is closed")
            if not self._loaded:
                self._open()
                self._loaded = True

    def stream(self, request: EngineRequest, emit: Emit) -> Completion:
        turn = _Turn(request)
        woken = Event()
        turn.wake = woken.set
        self._arrive(turn)
        woken.wait()
        return self._serve(turn, emit)

    def submit(self, request: EngineRequest, emit: Emit, done: Done) -> None:
        turn = _Turn(request)

        def serve_and_tell() -> None:
            outcome: Completion | BaseException
            try:
                outcome = self._serve(turn, emit)
            except BaseException as error:
                outcome = error
            try:
                done(outcome)
            except Exception:
                log.exception("model %s: the receiver of request %s failed", self.name, request.id)

        def wake() -> None:
            if turn.admitted:
                self._threads.submit(serve_and_tell)
            else:  # ended while it waited: every thread of the engine may be busy, so this one tells
                serve_and_tell()

        turn.wake = wake
        self._arrive(turn)

    def cancel(self, request_id: str) -> bool:
        with self._changed:
            turn = self._turns.get(request_id)
            if turn is None:
                return False
            turn.cancelled = True
            turn.stop.set()
            waiting = turn in self._line
            if waiting:
                self._line.remove(turn)
                del self._turns[request_id]
        if waiting:
            turn.wake()
        return True

    def busy(self) -> int:
        with self._changed:
            return self._slots - self._free

    def health(self) -> Health:
        if self._closed:
            return Health(False, f"{self._describe()}: closed")
        if not self._loaded:
            return Health(False, f"{self._describe()}: not loaded")
        if self._fault:
            return Health(False, f"{self._describe()}: {self._fault}")
        return Health(True, f"{self._describe()}: {self.busy()} of {self._slots} slots busy")

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            waiting = list(self._line)
            self._line.clear()
            for turn in self._turns.values():
                turn.stop.set()
            for turn in waiting:
                del self._turns[turn.request.id]
        for turn in waiting:
            turn.wake()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._turns, CLOSE_WITHIN_S):
                raise EngineError(
                    f"model {self.name}: {len(self._turns)} requests did not stop in {CLOSE_WITHIN_S:g} s"
                )
        self._threads.shutdown()
        with self._opening:
            if self._loaded:
                self._shut()

    def _arrive(self, turn: _Turn) -> None:
        with self._changed:
            if self._closed or not self._loaded:
                raise EngineError(f"model {self.name}: the engine is {'closed' if self._closed else 'not loaded'}")
            if turn.request.id in self._turns:
                raise EngineError(f"model {self.name}: request {turn.request.id} is already in the engine")
            self._turns[turn.request.id] = turn
            self._line.append(turn)
            self._grant()

    def _grant(self) -> None:
        """Give free slots to the head of the line; the lock is held."""
        while self._free and self._line:
            self._free -= 1
            turn = self._line.popleft()
            turn.admitted = True
            turn.wake()

    def _serve(self, turn: _Turn, emit: Emit) -> Completion:
        if not turn.admitted:  # left the line without a slot
            return self._ended(turn, NOTHING_DONE)
        try:
            completion = NOTHING_DONE if turn.stop.is_set() else self._generate(turn.request, emit, turn.stop)
        except EngineError as error:
            self._fault = f"the last request failed: {error}"
            raise
        finally:
            with self._changed:
                del self._turns[turn.request.id]
                self._free += 1
                self._grant()
                self._changed.notify_all()
        self._fault = ""
        return self._ended(turn, completion)

    def _ended(self, turn: _Turn, completion: Completion) -> Completion:
        """The completion; EngineError if closing cut it short: nobody asked for that end, so it must be tried again."""
        if completion.finish_reason == CANCELLED and not turn.cancelled:
            raise EngineError(f"model {self.name}: the engine was closed before request {turn.request.id} ended")
        return completion

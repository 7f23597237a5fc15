"""How is one attempt run: from a leased message to an answer that is stored or sent, once?"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
import structlog

from qosqueue.broker.leases import LEASE_LOST
from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.errors import EngineError, StoreUnavailable
from qosqueue.service.attempts import Attempts
from qosqueue.service.failures import EXPIRED
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue_workers.answers import answer_body, engine_endpoint
from qosqueue_workers.engines.base import CANCELLED, Choices, Engine, EngineRefused, EngineRequest
from qosqueue_workers.sinks import JobSink, ReplySink, Sink

NO_REPLICA = {
    "status": 503,
    "code": "model_unavailable",
    "message": "No replica of this model is here.",
    "param": "model",
}
FAILED = {"status": 500, "code": "engine_failed", "message": "The model failed.", "param": None}
BROKEN = {"status": 500, "code": "internal_error", "message": "The attempt failed unexpectedly.", "param": None}

log = structlog.get_logger(__name__)


STALLED = "stalled"


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: whether the engine `served` it, to its end or until it was `stopped`, what it `spent`
    (`tokens`, `gpu_ms`; None: nothing), whether the engine is at `fault`, whether it is to be tried `again`, for nobody
    has heard anything of it, and why there is no answer, if that `error` is still to be said: another attempt, or
    another model, may have one."""

    served: bool = False
    stopped: bool = False
    spent: dict[str, int] | None = None
    fault: bool = False
    again: bool = False
    error: dict[str, Any] | None = None


UNSERVED = Ended()


@dataclass
class _Running:
    """One attempt that runs here, when its engine last gave a sign of life (ms of a clock that is never set back), and
    why it must stop, if it must."""

    task: str
    fence: int
    alive_ms: int
    stopped: str | None = None

    @property
    def key(self) -> str:
        """Its name in the engine: two attempts at one request may meet there, if the lease of the first was lost."""
        return f"{self.task}:{self.fence}"


class AttemptRunner:
    """Runs attempts on this worker's engines; one call holds one slot."""

    def __init__(self, engines: Mapping[str, Engine], attempts: Attempts, outbox: Outbox, worker: str) -> None:
        self._engines = engines
        self._attempts = attempts
        self._outbox = outbox
        self._worker = worker
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def run(self, request: dict[str, Any], fence: int, passage: str = "") -> Ended:
        """Run one attempt to its end, with its last word said; it is not tried again. `passage` is what its
        message met while it waited, for the record.

        Raises StoreUnavailable or redis.RedisError if its outcome could not be written down: then the message must stay
        unsettled, and comes back when its lease ends.
        """
        writer = self.writer(request, fence)
        try:
            ended = self.attempt(request, fence, writer, passage)
            if ended.error is not None:
                self.sink(request, fence, writer).failed(ended.error)
            return ended
        finally:
            self._outbox.flush(writer)

    def writer(self, request: dict[str, Any], fence: int) -> ReplyWriter | None:
        """What the attempt will speak with, if somebody waits for its answer."""
        reply = request["reply"]
        return None if reply is None else ReplyWriter(self._outbox, reply, request["id"], fence)

    def attempt(self, request: dict[str, Any], fence: int, writer: ReplyWriter | None, passage: str = "") -> Ended:
        """Run one attempt; its last word is left in the outbox, for the caller to flush with whatever settles it.

        What the model could not answer has said no last word: that is left to whoever tries again or elsewhere, or
        cannot. Raises as `run` does.
        """
        sink = self.sink(request, fence, writer, passage)
        if now_ms() > request["expires_ms"] and sink.is_late():
            sink.failed(EXPIRED)
            return UNSERVED
        attempt = _Running(request["id"], fence, monotonic_ms())
        with self._lock:
            self._running[attempt.key] = attempt
        try:
            return self._run(request, attempt, sink)
        finally:
            with self._lock:
                self._running.pop(attempt.key, None)

    def stop_stalled(self, stall_ms: int) -> None:
        """End the attempts whose engine has given no sign of life for so long."""
        before_ms = monotonic_ms() - stall_ms
        with self._lock:
            stalled = [each for each in self._running.values() if each.alive_ms < before_ms and each.stopped is None]
        for attempt in stalled:
            self.stop(attempt.task, STALLED, attempt.fence)

    def stop(self, task: str, reason: str, fence: int | None = None) -> None:
        """End the attempts at a request, or the one of that fence, if this worker runs them."""
        with self._lock:
            attempts = [each for each in self._running.values() if each.task == task and fence in (None, each.fence)]
        for attempt in attempts:
            attempt.stopped = reason
            if any(engine.cancel(attempt.key) for engine in self._engines.values()):
                log.info("an attempt was stopped", request=task, fence=attempt.fence, reason=reason)

    def sink(self, request: dict[str, Any], fence: int, writer: ReplyWriter | None, passage: str = "") -> Sink:
        """Where an attempt's words go."""
        if writer is None:
            return JobSink(self._attempts, request, fence, self._worker, passage)
        return ReplySink(writer, request, self._worker, passage)

    def _run(self, request: dict[str, Any], attempt: _Running, sink: Sink) -> Ended:
        engine = self._engines.get(request["model"])
        if engine is None:
            return Ended(error=NO_REPLICA)
        body = sink.begin()
        if body is None:
            return UNSERVED
        try:
            return self._generate(
                engine, EngineRequest(attempt.key, engine_endpoint(request["endpoint"]), body), request, attempt, sink
            )
        except (StoreUnavailable, redis.RedisError):
            raise
        except Exception:
            # A bug of ours must not leave a client or a job waiting; it is told, and raised for the log.
            sink.failed(BROKEN)
            raise

    def _generate(
        self, engine: Engine, call: EngineRequest, request: dict[str, Any], attempt: _Running, sink: Sink
    ) -> Ended:
        begun_ms = now_ms()
        first_ms: list[int] = []

        def emit(choices: Choices) -> None:
            if attempt.stopped is not None:
                engine.cancel(call.id)  # the word came before the engine knew of the request
                return
            attempt.alive_ms = monotonic_ms()
            if not first_ms:
                first_ms.append(now_ms())
            sink.chunk(choices)

        try:
            completion = engine.stream(call, emit)
        except EngineRefused as refusal:
            sink.failed(
                {"status": refusal.status, "code": refusal.code, "message": refusal.message, "param": refusal.param}
            )
            return UNSERVED
        except EngineError as error:
            log.error("an engine failed", request=call.id, error=str(error))
            return _failed(request, was_heard=bool(first_ms))
        if completion.finish_reason == CANCELLED and attempt.stopped == STALLED:
            log.error("an engine gave no sign of life", request=call.id)
            return _failed(request, was_heard=bool(first_ms))
        tokens = completion.prompt_tokens + completion.completion_tokens
        spent = {"tokens": tokens, "gpu_ms": max(0, now_ms() - begun_ms)}
        if completion.finish_reason == CANCELLED:
            # Who lost the lease has nothing more to say: the request is in the queue again, or another's.
            if attempt.stopped != LEASE_LOST:
                sink.cancelled(completion)
            # What it used until then is charged; the queue knows that it was cancelled, and learns nothing from it. Nor
            # do breakers: an engine that hangs is cancelled by every client that gives up.
            return Ended(served=True, stopped=True, spent=spent)
        arrived_ms = request["created_ms"]
        first_token_ms = (first_ms[0] if first_ms else now_ms()) - arrived_ms
        sink.done(completion, answer_body(request, call.body, completion), begun_ms - arrived_ms, first_token_ms)
        return Ended(served=True, spent=spent)


def _failed(request: dict[str, Any], *, was_heard: bool) -> Ended:
    """The engine is at fault: the request is tried again, unless its client has a part of this answer."""
    # A message of an earlier version does not say whether.
    again = request.get("again", True) and not (request["stream"] and was_heard)
    return Ended(fault=True, again=again, error=FAILED)

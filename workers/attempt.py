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
from qosqueue.store.clock import now_ms
from qosqueue_workers.engines.base import CANCELLED, Choices, Completion, Engine, EngineRefused, EngineRequest
from qosqueue_workers.sinks import JobSink, ReplySink, Sink

NO_REPLICA = {
    "status": 503,
    "code": "model_unavailable",
    "message": "No replica of this model is here.",
    "param": "model",
}
BROKEN = {"status": 500, "code": "internal_error", "message": "The attempt failed unexpectedly.", "param": None}

log = structlog.get_logger(__name__)


@dataclass
class _Running:
    """One attempt that runs here, and why it must stop, if it must."""

    task: str
    fence: int
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

    def run(self, request: dict[str, Any], fence: int) -> bool:
        """Run one attempt to its end, with its last word said; whether the engine served it.

        Raises StoreUnavailable or redis.RedisError if its outcome could not be written down: then the message must stay
        unsettled, and comes back when its lease ends.
        """
        writer = self.writer(request, fence)
        try:
            return self.attempt(request, fence, writer)
        finally:
            self._outbox.flush(writer)

    def writer(self, request: dict[str, Any], fence: int) -> ReplyWriter | None:
        """What the attempt will speak with, if somebody waits for its answer."""
        reply = request["reply"]
        return None if reply is None else ReplyWriter(self._outbox, reply, request["id"], fence)

    def attempt(self, request: dict[str, Any], fence: int, writer: ReplyWriter | None) -> bool:
        """Run one attempt; its last word is left in the outbox, for the caller to flush with whatever settles it.

        Answers and raises as `run` does.
        """
        sink: Sink = (
            JobSink(self._attempts, request, fence, self._worker)
            if writer is None
            else ReplySink(writer, request, self._worker)
        )
        if now_ms() > request["expires_ms"] and sink.is_late():
            sink.failed(EXPIRED)
            return False
        attempt = _Running(request["id"], fence)
        with self._lock:
            self._running[attempt.key] = attempt
        try:
            return self._run(request, attempt, sink)
        finally:
            with self._lock:
                self._running.pop(attempt.key, None)

    def stop(self, task: str, reason: str, fence: int | None = None) -> None:
        """End the attempts at a request, or the one of that fence, if this worker runs them."""
        with self._lock:
            attempts = [each for each in self._running.values() if each.task == task and fence in (None, each.fence)]
        for attempt in attempts:
            attempt.stopped = reason
            if any(engine.cancel(attempt.key) for engine in self._engines.values()):
                log.info("an attempt was stopped", request=task, fence=attempt.fence, reason=reason)

    def _run(self, request: dict[str, Any], attempt: _Running, sink: Sink) -> bool:
        engine = self._engines.get(request["model"])
        if engine is None:
            sink.failed(NO_REPLICA)
            return False
        body = sink.begin()
        if body is None:
            return False
        try:
            return self._generate(engine, EngineRequest(attempt.key, request["endpoint"], body), request, attempt, sink)
        except (StoreUnavailable, redis.RedisError):
            raise
        except Exception:
            # A bug of ours must not leave a client or a job waiting; it is told, and raised for the log.
            sink.failed(BROKEN)
            raise

    def _generate(
        self, engine: Engine, call: EngineRequest, request: dict[str, Any], attempt: _Running, sink: Sink
    ) -> bool:
        begun_ms = now_ms()
        first_ms: list[int] = []

        def emit(choices: Choices) -> None:
            if attempt.stopped is not None:
                engine.cancel(call.id)  # the word came before the engine knew of the request
                return
            if not first_ms:
                first_ms.append(now_ms())
            sink.chunk(choices)

        try:
            completion = engine.stream(call, emit)
        except EngineRefused as refusal:
            sink.failed(
                {"status": refusal.status, "code": refusal.code, "message": refusal.message, "param": refusal.param}
            )
            return False
        except EngineError as error:
            log.error("an engine failed", request=call.id, error=str(error))
            sink.failed({"status": 500, "code": "engine_failed", "message": "The model failed.", "param": None})
            return False
        if completion.finish_reason == CANCELLED:
            # Who lost the lease has nothing more to say: the request is in the queue again, or another's.
            if attempt.stopped != LEASE_LOST:
                sink.cancelled()
            # What it used until then is charged; the queue knows that it was cancelled, and learns nothing from it.
            return True
        arrived_ms = request["created_ms"]
        first_token_ms = (first_ms[0] if first_ms else now_ms()) - arrived_ms
        sink.done(completion, chat_completion(request, completion), begun_ms - arrived_ms, first_token_ms)
        return True


def chat_completion(request: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """The body of an OpenAI chat.completion."""
    return {
        "id": f"chatcmpl-{request['id'].removeprefix('job_')}",
        "object": "chat.completion",
        "created": request["created_ms"] // 1000,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": completion.text},
                "finish_reason": completion.finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        },
    }

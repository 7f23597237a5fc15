"""Where do an attempt's events go? To the job's row, or to the client that waits for a synchronous answer."""

from __future__ import annotations

import time
from typing import Any, Protocol

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from qosqueue.broker.outbox import ReplyWriter
from qosqueue.errors import StoreUnavailable
from qosqueue.service.attempts import Attempts
from qosqueue.store.clock import now_ms
from qosqueue_workers.engines.base import Choices, Completion

# What a job cost to compute is worth waiting for SQL: its lease is renewed meanwhile.
patiently = retry(
    retry=retry_if_exception_type(StoreUnavailable),
    wait=wait_exponential(multiplier=0.2, max=5),
    stop=stop_after_delay(120),
    reraise=True,
)

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where an attempt's events go: the job's row, or the reply stream of a waiting client."""

    def is_late(self) -> bool:
        """Whether the request's time to live is over, if that is what its message says."""

    def begin(self) -> dict[str, Any] | None:
        """The request's body, or None if this attempt must not run."""

    def chunk(self, choices: Choices) -> None:
        """Part of the answer."""

    def done(self, completion: Completion, result: dict[str, Any], queued_ms: int, first_token_ms: int) -> None:
        """The end of the answer; times in ms from the request's arrival."""

    def cancelled(self, completion: Completion | None = None) -> None:
        """The tenant took the request back while it ran; `completion` is what it was served until then, if it was."""

    def failed(self, error: dict[str, Any]) -> None:
        """Why there is no answer: status, code, message, param."""

    def waits_again(self, failed_ms: int) -> None:
        """The attempt failed at that instant, before anybody heard of it: the request is in the queue again."""


class JobSink:
    """A job: everything goes to its row, with the fence."""

    def __init__(self, attempts: Attempts, request: dict[str, Any], fence: int, worker: str, passage: str) -> None:
        self._attempts = attempts
        self._job_id = request["id"]
        self._created_ms = request["created_ms"]
        self._fence = fence
        self._worker = worker
        self._passage = passage
        self._begun_s = time.monotonic()

    @patiently
    def is_late(self) -> bool:
        """The row has the last word: a job that was replayed got its time again, and its message cannot say so."""
        expires_ms = self._attempts.expires_ms(self._job_id)
        return expires_ms is None or now_ms() > expires_ms

    @patiently
    def begin(self) -> dict[str, Any] | None:
        body = self._attempts.begin(self._job_id, self._fence, self._worker, self._passage)
        self._begun_s = time.monotonic()
        return body

    def chunk(self, choices: Choices) -> None:
        """Nobody waits for parts of a job."""

    def done(self, completion: Completion, result: dict[str, Any], queued_ms: int, first_token_ms: int) -> None:
        # Before SQL is asked, which may make it wait.
        self._store(completion, result, first_token_ms, _ms_since(self._begun_s))

    @patiently
    def _store(self, completion: Completion, result: dict[str, Any], first_token_ms: int, gpu_ms: int) -> None:
        stored = self._attempts.finish(
            self._job_id,
            self._fence,
            result,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            first_token_ms=self._created_ms + first_token_ms,
            gpu_ms=gpu_ms,
        )
        if not stored:
            log.warning("a late result was refused", job=self._job_id, fence=self._fence)

    def cancelled(self, completion: Completion | None = None) -> None:
        used: dict[str, int] = {}
        if completion is not None:
            used = {"prompt_tokens": completion.prompt_tokens, "completion_tokens": completion.completion_tokens}
            used["gpu_ms"] = _ms_since(self._begun_s)
        self._store_cancelled(used)

    @patiently
    def _store_cancelled(self, used: dict[str, int]) -> None:
        self._attempts.cancelled(self._job_id, self._fence, **used)

    @patiently
    def failed(self, error: dict[str, Any]) -> None:
        if error["code"] == "deadline_exceeded":
            self._attempts.expire(self._job_id)
        else:
            self._attempts.fail(self._job_id, self._fence, error)

    @patiently
    def waits_again(self, failed_ms: int) -> None:
        self._attempts.waits_again(self._job_id, self._fence, failed_ms)


class ReplySink:
    """A synchronous request: everything goes to the web process that waits, as it happens.

    The last word is not urgent: it goes in one write with the settling that follows at once (AttemptRunner.attempt).
    """

    def __init__(self, writer: ReplyWriter, request: dict[str, Any], worker: str, passage: str) -> None:
        self._writer = writer
        self._request = request
        self._worker = worker
        self._passage = passage
        self._begun_s = time.monotonic()
        self._streams = request["stream"]

    def is_late(self) -> bool:
        return True

    def begin(self) -> dict[str, Any] | None:
        queued_ms = now_ms() - self._request["created_ms"]
        started = {"worker": self._worker, "queued_ms": queued_ms, "passage": self._passage}
        self._writer.write("started", started, urgent=False)
        body: dict[str, Any] = self._request["body"]
        return body

    def chunk(self, choices: Choices) -> None:
        if self._streams:
            self._writer.write("chunk", {"choices": choices}, urgent=_has_text(choices))

    def done(self, completion: Completion, result: dict[str, Any], queued_ms: int, first_token_ms: int) -> None:
        self._writer.write(
            "done",
            {
                "finish_reason": completion.finish_reason,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
                "result": result,
                "queued_ms": queued_ms,
                "first_token_ms": first_token_ms,
                "gpu_ms": _ms_since(self._begun_s),
            },
            urgent=False,
        )

    def cancelled(self, completion: Completion | None = None) -> None:
        """The client that would read it has left."""

    def failed(self, error: dict[str, Any]) -> None:
        self._writer.write("failed", error, urgent=False)

    def waits_again(self, failed_ms: int) -> None:
        """Its client waits on."""


def _has_text(choices: Choices) -> bool:
    """Whether a client can use the chunk at once: not one that only names the role, or the reason of the end."""
    return any(choice["delta"].get("content") and choice.get("finish_reason") is None for choice in choices)


def _ms_since(begun_s: float) -> int:
    return round((time.monotonic() - begun_s) * 1000)

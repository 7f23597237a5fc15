"""What does the client hand out? Frozen values made of the API's JSON, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True)
class Job:
    """One job as the API shows it. Instants are seconds since the epoch, None: not yet.

    `raw` is the whole answer, with fields that this version of the client does not know.
    """

    id: str
    status: str
    model: str
    endpoint: str
    task_type: str
    priority: int
    lane: str
    created_at: float
    started_at: float | None
    first_token_at: float | None
    finished_at: float | None
    attempts: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    raw: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.status in FINAL

    @property
    def text(self) -> str | None:
        """The answer's text, if it is a text that it was asked for and it succeeded."""
        if self.result is None or not (choices := self.result.get("choices")):
            return None
        first: dict[str, Any] = choices[0]
        text: str | None = first["message"]["content"] if "message" in first else first.get("text")
        return text


@dataclass(frozen=True)
class Piece:
    """A part of a streamed answer: what it adds to the text, and the chunk itself."""

    text: str
    chunk: dict[str, Any]


@dataclass(frozen=True)
class Position:
    """The streamed request still waits: at 1 it is the next of its lane."""

    position: int


class ApiError(Exception):
    """The API refused, or failed: its words, and what a program may go by.

    `status` is HTTP's (0: the connection failed), `code` and `param` the API's, `retry_after_s` when to come back.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None, param: str | None, retry_after_s: float | None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        # Whether the same call may be answered otherwise later.
        self.may_retry = False


class JobNotDone(TimeoutError):
    """The time to wait was over before the job ended; `job` is how it stood."""

    def __init__(self, job: Job, timeout_s: float) -> None:
        super().__init__(f"job {job.id} is {job.status} after {timeout_s:g} s")
        self.job = job


def job_of(told: dict[str, Any]) -> Job:
    """The API's JSON as a value."""
    known = {name: told[name] for name in Job.__dataclass_fields__ if name != "raw"}
    return Job(**known, raw=told)

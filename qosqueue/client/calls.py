"""Which HTTP request is each of the client's calls, and what does its answer mean? No IO: both clients share this."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx2

from qosqueue.client.answers import ApiError, Job, Piece, Position, job_of

CHAT = "/v1/chat/completions"
LONGEST_WAIT_S = 60.0
TRIES = 3
# What the server names is waited for, but nobody waits longer than this for another try.
LONGEST_PAUSE_S = 30.0
FIRST_PAUSE_S = 0.5
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

Told = TypeVar("Told")


@dataclass(frozen=True)
class Call(Generic[Told]):
    """One request, and how its answer is read. `repeatable`: to send it twice does no more than to send it once."""

    method: str
    path: str
    read: Callable[[Any], Told]
    body: dict[str, Any] | None = None
    query: Mapping[str, str | int | float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    # How long the server may hold the answer back by itself.
    held_s: float = 0.0


def submit(
    body: dict[str, Any],
    *,
    endpoint: str,
    task_type: str,
    latency_budget_ms: int | None,
    deadline_ms: int | None,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
) -> Call[Job]:
    """Submit one job. It has an idempotency key always, so that a try whose answer was lost may be repeated."""
    optional = {"latency_budget_ms": latency_budget_ms, "deadline_ms": deadline_ms, "metadata": metadata}
    given = {name: value for name, value in optional.items() if value is not None}
    key = idempotency_key or secrets.token_hex(16)
    whole = {"endpoint": endpoint, "body": body, "task_type": task_type, **given}
    return Call("POST", "/v1/jobs", job_of, whole, headers={"Idempotency-Key": key})


def job(job_id: str, wait_s: float = 0.0) -> Call[Job]:
    """One job, at once or as soon as it has ended."""
    query = {"wait": min(wait_s, LONGEST_WAIT_S)} if wait_s > 0 else {}
    return Call("GET", _of(job_id), job_of, query=query, held_s=query.get("wait", 0.0))


def jobs(limit: int, before: str | None) -> Call[tuple[list[Job], str | None]]:
    """A page of jobs, newest first, and the id to ask for the next page with (None: there is none)."""
    query: dict[str, str | int | float] = {"limit": limit}
    if before is not None:
        query["before"] = before
    return Call("GET", "/v1/jobs", _page, query=query)


def cancel(job_id: str) -> Call[Job]:
    """Take a job back."""
    return Call("POST", f"{_of(job_id)}/cancel", job_of)


def explain(job_id: str) -> Call[dict[str, Any]]:
    """Why a job waited."""
    return Call("GET", f"{_of(job_id)}/explain", dict)


def chat(body: dict[str, Any], latency_budget_ms: int | None) -> Call[dict[str, Any]]:
    """A chat that is answered while the caller waits. To repeat it would run it twice."""
    budget = {} if latency_budget_ms is None else {"latency_budget_ms": latency_budget_ms}
    return Call("POST", CHAT, dict, {**body, **budget}, repeatable=False)


def error_of(answer: httpx2.Response) -> ApiError:
    """The error that a read answer tells; also of one that is not the API's, as a proxy's page."""
    told: Any = None
    try:
        told = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        told = {"message": f"HTTP {answer.status_code}: {answer.text[:200]}"}
    error = error_in(told, answer.status_code)
    after = answer.headers.get("Retry-After", "")
    error.retry_after_s = float(after) if after.isdecimal() else None
    in_progress = error.code == "idempotency_in_progress"
    wanted = answer.headers.get("x-should-retry") != "false"
    error.may_retry = wanted and (answer.status_code in _RETRIED or in_progress)
    return error


def error_in(told: Mapping[str, Any], status: int) -> ApiError:
    """The error of an `error` object, as it also stands in a stream."""
    return ApiError(
        status, str(told.get("message")), code=told.get("code"), param=told.get("param"), retry_after_s=None
    )


def unreachable(fault: httpx2.TransportError, call: Call[Any]) -> ApiError:
    """The error of a call that had no answer."""
    reason = str(fault) or type(fault).__name__
    error = ApiError(0, f"{call.method} {call.path}: {reason}", code=None, param=None, retry_after_s=None)
    error.may_retry = call.repeatable
    return error


def pause_s(error: ApiError, tries: int, call: Call[Any]) -> float | None:
    """How long to wait before another try, after so many; None: that was the last."""
    # Refused at the door is not begun: also what must not run twice may be tried again. After a 500 nobody knows.
    begun = error.status not in (0, 429, 503)
    if tries >= TRIES or not error.may_retry or (begun and not call.repeatable):
        return None
    pause = error.retry_after_s if error.retry_after_s is not None else FIRST_PAUSE_S * 2 ** (tries - 1)
    return pause if pause <= LONGEST_PAUSE_S else None


class Events:
    """A stream's lines become pieces of the answer and places in the queue."""

    def __init__(self) -> None:
        self.done = False

    def of(self, line: str) -> Iterator[Piece | Position]:
        """What a line tells; raises ApiError for a failure inside the stream."""
        if line.startswith(": queued position="):
            yield Position(int(line.rpartition("=")[2]))
        if not line.startswith("data: "):
            return
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            self.done = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise error_in(chunk["error"], 200)
        yield Piece("".join(_texts(chunk.get("choices") or [])), chunk)

    def check(self) -> None:
        """Raise ApiError if the stream is over without its end."""
        if not self.done:
            raise ApiError(0, "the stream was cut off before its end", code=None, param=None, retry_after_s=None)


def _texts(choices: Iterable[dict[str, Any]]) -> Iterator[str]:
    for choice in choices:
        yield choice.get("delta", {}).get("content") or choice.get("text") or ""


def _of(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _page(told: dict[str, Any]) -> tuple[list[Job], str | None]:
    return [job_of(one) for one in told["data"]], told["last_id"] if told["has_more"] else None

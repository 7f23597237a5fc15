"""How does a tenant send one request over HTTP, and what does it see?

Nothing but the standard library: the demonstration must not need what its users need not install.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qosqueue.policy.terms import Tier
from scripts.demo.load import Arrival
from scripts.demo.system import MODEL, Site

CHAT = "/v1/chat/completions"
JOBS = "/v1/jobs"
LONGEST_WAIT_S = 60
CLEANUP_S = 10.0
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


class Refused(Exception):
    """The API answered with an error: `HTTP 503: ...`."""


@dataclass(frozen=True)
class Streamed:
    """What a streamed answer brought, instants by `time.time()`; an answer without an end was cut off."""

    first_token_at: float | None = None
    ended_at: float | None = None
    tokens: int = 0


def chat(site: Site, arrival: Arrival, until: float) -> Streamed:
    """Send a streamed chat and read it to its end, or until the instant `until` (by `time.time()`).

    Raises Refused, OSError or HTTPException.
    """
    body = {
        **_chat_body(arrival),
        "stream": True,
        "stream_options": {"include_usage": True},
        "latency_budget_ms": arrival.stream.budget_ms,
    }
    with _request(site, arrival.tier, "POST", CHAT, body, until) as (connection, answer):
        # The server keeps a connection open only while it has something to say, so this is the socket to the end.
        return read_stream(_lines(connection, answer, until))


def read_stream(lines: Iterable[bytes]) -> Streamed:
    """Follow server-sent events of OpenAI's shape, noting when they come. Raises Refused for a failure inside."""
    seen = Streamed()
    for line in lines:
        if not line.startswith(b"data: "):
            continue
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            return Streamed(seen.first_token_at, time.time(), seen.tokens)
        chunk = json.loads(data)
        if "error" in chunk:
            raise Refused(f"in the stream: {chunk['error']['message']}")
        if seen.first_token_at is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
            seen = Streamed(time.time())
        if chunk.get("usage"):
            seen = Streamed(seen.first_token_at, None, chunk["usage"]["completion_tokens"])
    return seen


def submit(site: Site, arrival: Arrival, until: float) -> dict[str, Any]:
    """Submit a job; the job as the API shows it. Raises Refused, OSError or HTTPException."""
    stream = arrival.stream
    body = {"body": _chat_body(arrival), "task_type": stream.task_type, "latency_budget_ms": stream.budget_ms}
    return _whole(site, arrival.tier, "POST", JOBS, body, until)


def follow(site: Site, tier: Tier, job: dict[str, Any], until: float) -> dict[str, Any]:
    """Poll a job until it has ended or the instant `until` has come; the job as last seen."""
    while job["status"] not in TERMINAL and (left_s := until - time.time()) > 0:
        wait_s = min(left_s, LONGEST_WAIT_S)
        job = _whole(site, tier, "GET", f"{JOBS}/{job['id']}?wait={wait_s:.3f}", None, until + CLEANUP_S)
    return job


def cancel(site: Site, tier: Tier, job_id: str) -> dict[str, Any]:
    """Take a job back; the job as it then is (one that had ended stays as it ended)."""
    return _whole(site, tier, "POST", f"{JOBS}/{job_id}/cancel", None, time.time() + CLEANUP_S)


def _chat_body(arrival: Arrival) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": arrival.prompt}],
        "max_tokens": arrival.max_tokens,
        "temperature": 0.0,
    }


def _whole(site: Site, tier: Tier, method: str, path: str, body: dict[str, Any] | None, until: float) -> dict[str, Any]:
    with _request(site, tier, method, path, body, until) as (_, answer):
        read: dict[str, Any] = json.loads(answer.read())
        return read


@contextmanager
def _request(
    site: Site, tier: Tier, method: str, path: str, body: dict[str, Any] | None, until: float
) -> Iterator[tuple[http.client.HTTPConnection, http.client.HTTPResponse]]:
    connection = http.client.HTTPConnection(site.host, site.port, timeout=_left_s(until))
    headers = {"Authorization": f"Bearer {site.keys[tier]}", "Content-Type": "application/json"}
    try:
        connection.connect()
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status >= http.client.BAD_REQUEST:
            raise Refused(f"HTTP {answer.status}: {answer.read(500).decode(errors='replace')}")
        yield connection, answer
    finally:
        connection.close()


def _lines(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, until: float) -> Iterator[bytes]:
    try:
        while line := answer.readline():
            yield line
            if time.time() >= until:
                return
            if connection.sock is not None:
                connection.sock.settimeout(_left_s(until))
    except TimeoutError:
        return


def _left_s(until: float) -> float:
    return max(0.05, until - time.time())

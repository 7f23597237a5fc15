"""Which headers say something about a request or its answer?"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, abort, g, request

from qosqueue.policy.profile import Profile
from qosqueue.policy.terms import MAX_BUDGET_MS, ServiceTier
from qosqueue.service.body_faults import invalid_value
from qosqueue.service.jobs import Accepted
from qosqueue.service.online import Chunk, Done, Event, Started
from qosqueue.store.records import Job
from qosqueue_web.api.errors import error_response, rate_headers
from qosqueue_web.api.hints import TRACEPARENT, traceparent_of
from qosqueue_web.api.queries import MAX_WAIT_S

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_WHOLE_MS = re.compile(r"[0-9]{1,8}")
_PREFER_WAIT = re.compile(r"wait\s*=\s*([0-9]{1,9})")
REQUEST_ID = "x-request-id"
RESPOND_ASYNC = "respond-async"


def register(app: Flask) -> None:
    """Give every request an id, and every answer `x-request-id`, and `traceparent` if the client sent one."""

    @app.before_request
    def name_request() -> None:
        g.request_id = request_id(request.headers.get(REQUEST_ID, ""))

    @app.after_request
    def label(response: Response) -> Response:
        response.headers[REQUEST_ID] = g.get("request_id", "")
        response.headers.extend(trace_headers(request.environ))
        return response


def request_id(given: str) -> str:
    """The id that a client gave to its request, if it is a sane one, else a fresh one."""
    return given if _SANE_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def trace_headers(environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The client's trace, told back."""
    given = traceparent_of(environ)
    return [] if given is None else [(TRACEPARENT, given)]


def latency_budget_ms(in_body: int | None) -> int | None:
    """The request's latency budget: the body's, else that of the header `X-Latency-Budget-Ms`. Aborts with 400."""
    given = request.headers.get("X-Latency-Budget-Ms")
    if in_body is not None or given is None:
        return in_body
    if not _WHOLE_MS.fullmatch(given) or not 1 <= int(given) <= MAX_BUDGET_MS:
        expected = f"expected a whole number of milliseconds from 1 to {MAX_BUDGET_MS}"
        abort(error_response(invalid_value("latency_budget_ms", expected)))
    return int(given)


def preferred_wait_s() -> float | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most 60; None without it. A preference never makes a request fail."""
    for preference in _preferences(request.environ):
        found = _PREFER_WAIT.fullmatch(preference)
        if found:
            return min(int(found[1]), MAX_WAIT_S)
    return None


def prefers_async(environ: Mapping[str, Any]) -> bool:
    """Whether the client takes a job for an answer: `Prefer: respond-async` (RFC 7240)."""
    return "HTTP_PREFER" in environ and RESPOND_ASYNC in _preferences(environ)


def _preferences(environ: Mapping[str, Any]) -> list[str]:
    return [preference.strip().lower() for preference in environ.get("HTTP_PREFER", "").split(",")]


def profile_headers(profile: Profile) -> list[tuple[str, str]]:
    """How the request was ranked."""
    return [
        ("x-qosqueue-priority", str(profile.priority)),
        ("x-qosqueue-lane", profile.routing_key),
        ("x-qosqueue-service-tier", profile.service_tier),
    ]


def job_headers(job: Job) -> list[tuple[str, str]]:
    """The same of a job, and what was changed of what was asked for."""
    return [
        ("x-qosqueue-priority", str(job.priority)),
        ("x-qosqueue-lane", job.routing_key),
        ("x-qosqueue-service-tier", job.details.get("service_tier", ServiceTier.DEFAULT)),
        *detour_headers(job.details.get("detours", ())),
    ]


def accepted_headers(job: Accepted) -> list[tuple[str, str]]:
    """The same of a job that was just let in, where its answer is found, and what its tenant has left."""
    place = [("Location", f"/v1/jobs/{job.id}"), ("Retry-After", "1")]
    return [*place, *job_headers(job), *rate_headers(job.rates)]


def detour_headers(detours: Sequence[str]) -> list[tuple[str, str]]:
    """What was changed of what the client had asked for: another model, a shorter answer, a later start."""
    return [("x-qosqueue-detour", ", ".join(detours))] if detours else []


@dataclass
class Stopwatch:
    """Milliseconds until a call was queued, that it spent in the queue, and until its first token; None: not known."""

    began: float = field(default_factory=time.monotonic)
    submit_ms: float | None = None
    queue_ms: int | None = None
    ttft_ms: float | None = None

    def submitted(self) -> None:
        """The call is in the queue."""
        self.submit_ms = self.elapsed_s() * 1000

    def note(self, event: Event) -> None:
        """Take from an event what it tells."""
        if isinstance(event, Started):
            self.queue_ms = event.queued_ms
        elif isinstance(event, Chunk) and self.ttft_ms is None:
            self.ttft_ms = self.elapsed_s() * 1000
        elif isinstance(event, Done) and self.ttft_ms is None:
            # An answer that comes whole comes with its end: only the worker knows when it began.
            self.ttft_ms = event.first_token_ms

    def elapsed_s(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.began


def timing_headers(watch: Stopwatch) -> list[tuple[str, str]]:
    """`Server-Timing`, as far as it is known by now."""
    known = (("submit", watch.submit_ms), ("queue", watch.queue_ms), ("ttft", watch.ttft_ms))
    entries = [f"{name};dur={value:.1f}" for name, value in known if value is not None]
    return [("Server-Timing", ", ".join(entries))] if entries else []

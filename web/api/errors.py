"""What does a failed request look like? Always `{"error": {message, type, param, code}}`, with all four keys."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

from flask import Flask, Response, g, has_request_context, request
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge

from qosqueue.errors import BrokerUnavailable, Conflict, StoreUnavailable
from qosqueue.policy.refusal import Rates, Refusal
from qosqueue_web.api.hints import hints_of

# The pages answer people, with HTML of their own.
PAGES = "/admin/"
# The OpenAI client gives up at once if it is asked to wait longer.
MOST_RETRY_AFTER_S = 120

# Not ASCII is escaped: no token can break a line of a stream.
encode = json.JSONEncoder(separators=(",", ":")).encode

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 500: "internal_error"}
_MESSAGES = {
    404: "there is no such address",
    405: "this address does not take that method",
    413: "the body is larger than this server accepts",
    500: "the server failed to answer; the request id names the log entry",
}
# The OpenAI client retries every 429 and 5xx; for these a retry can only meet the same answer.
_FINAL_CODES = frozenset({"deadline_exceeded", "insufficient_quota", "purged"})


def is_page(path: str) -> bool:
    """Whether an address is one of the pages', not the API's."""
    return f"{path}/".startswith(PAGES)


def error_type(status: int) -> str:
    """OpenAI's `type` of an error with this HTTP status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_body(refusal: Refusal) -> dict[str, dict[str, str | None]]:
    """The JSON of a refusal."""
    return {
        "error": {
            "message": refusal.message,
            "type": error_type(refusal.status),
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def error_response(refusal: Refusal) -> Response:
    """The whole answer to a refused request, with the headers by which a client decides whether to retry."""
    tries = hints_of(request.environ).retry_count if has_request_context() else 0
    headers = error_headers(refusal, tries)
    return Response(encode(error_body(refusal)), refusal.status, headers, mimetype="application/json")


def error_headers(refusal: Refusal, retry_count: int = 0) -> list[tuple[str, str]]:
    """What a refusal's headers say beside its body; `retry_count` is how often its client has tried already."""
    headers = []
    retry_after_s = refusal.retry_after_s
    if retry_after_s is None and refusal.status == 503 and refusal.code not in _FINAL_CODES:
        # Spread, so that the clients that met the outage together do not come back together; and each time wider,
        # so that their tries are no storm.
        retry_after_s = random.randint(1, min(5 << min(retry_count, 8), MOST_RETRY_AFTER_S))
    if retry_after_s is not None:
        headers.append(("Retry-After", str(retry_after_s)))
    headers += rate_headers(refusal.rates)
    if refusal.code in _FINAL_CODES:
        headers.append(("x-should-retry", "false"))
    if refusal.status == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="qosqueue"'))
    return headers


def rate_headers(rates: Rates) -> list[tuple[str, str]]:
    """OpenAI's `x-ratelimit-*`: what a tenant may send a minute, what is left, when it is whole again."""
    headers = []
    for what, rate in (("requests", rates.requests), ("tokens", rates.tokens)):
        if rate is not None:
            headers += [
                (f"x-ratelimit-limit-{what}", str(rate.most)),
                (f"x-ratelimit-remaining-{what}", str(rate.remaining)),
                (f"x-ratelimit-reset-{what}", _duration(rate.reset_ms)),
            ]
    return headers


def _duration(ms: int) -> str:
    """A time as OpenAI writes it: `120ms`, `7.66s`, `2m59.56s`, `23h0m1s`."""
    if ms < 1_000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    told = f"{hours}h" if hours else ""
    told += f"{minutes}m" if hours or minutes else ""
    return f"{told}{rest_ms / 1_000:g}s"


def refusal_of_failure(error: dict[str, Any]) -> Refusal:
    """The refusal that a failed run amounts to; `error` has status, code, message and param (any may be absent)."""
    return Refusal(
        status=int(error.get("status") or 500),
        code=str(error.get("code") or "engine_failed"),
        message=str(error.get("message") or "the model failed to answer"),
        param=error.get("param"),
    )


def refusal_of_outage(error: BrokerUnavailable | StoreUnavailable) -> Refusal:
    """503 for a broker or a database that is away: nothing was accepted."""
    if isinstance(error, BrokerUnavailable):
        return Refusal(503, "broker_unavailable", "the queue cannot be reached; nothing was accepted")
    return Refusal(503, "store_unavailable", "the database cannot be reached; nothing was accepted")


def register(app: Flask) -> None:
    """Answer every failure of `app` outside the pages with an OpenAI error body; its log entries name the request."""
    app.logger.addFilter(name_request)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response | HTTPException:
        if is_page(request.path) and not isinstance(error, RequestEntityTooLarge):
            return error
        status = error.code or 500
        refusal = Refusal(status, _CODES.get(status, "invalid_request"), _MESSAGES.get(status, error.name))
        response = error_response(refusal)
        if isinstance(error, NotFound):
            return response
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    @app.errorhandler(BrokerUnavailable)
    @app.errorhandler(StoreUnavailable)
    def outage(error: BrokerUnavailable | StoreUnavailable) -> Response:
        app.logger.warning("%s: %s", type(error).__name__, error)
        return error_response(refusal_of_outage(error))

    @app.errorhandler(Conflict)
    def conflict(error: Conflict) -> Response:
        return error_response(Refusal(409, "conflict", str(error)))


def name_request(record: logging.LogRecord) -> bool:
    """Add to a log entry the id that the client was given in `x-request-id`, as a logging filter."""
    if has_request_context() and "request_id" in g:
        record.msg, record.args = f"{record.getMessage()} (request {g.request_id})", None
    return True

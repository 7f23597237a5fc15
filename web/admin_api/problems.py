"""How does the admin API say that something failed? As a problem (RFC 9457), with a code and the field at fault."""

from __future__ import annotations

from typing import NoReturn

from flask import Flask, Response, abort, g
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from qosqueue.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidField,
    InvalidPolicy,
    NoRoom,
    NotFound,
    StoreUnavailable,
)
from qosqueue.policy.refusal import Refusal
from qosqueue.service.body_faults import refusal_of_validation
from qosqueue_web.api.errors import encode, name_request, refusal_of_outage
from qosqueue_web.api.strict_json import StrictRequest

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 5
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 500: "internal_error"}
_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    500: "Internal error",
    503: "Unavailable",
}


class Problem(BaseModel):
    """Every failure's body. `code` is for programs, `detail` for people; `field` names the field at fault."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    request_id: str = ""


def problem(status: int, code: str, detail: str, field: str | None = None) -> Response:
    """The whole answer to a request that failed."""
    told = Problem(
        title=_TITLES.get(status, "Failed"),
        status=status,
        detail=detail,
        code=code,
        field=field,
        request_id=g.get("request_id", ""),
    )
    response = Response(encode(told.model_dump()), status, mimetype=PROBLEM_JSON)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def of_refusal(refusal: Refusal) -> Response:
    """A refusal of the parts that both APIs share."""
    return problem(refusal.status, refusal.code, refusal.message, refusal.param)


def of_validation(fault: ValidationError) -> Response:
    """400 that names the first field at fault."""
    return of_refusal(refusal_of_validation(fault))


class AdminRequest(StrictRequest):
    """A request whose body is read as strictly, and refused with a problem."""

    def refuse(self, refusal: Refusal) -> NoReturn:
        """End the request with this refusal."""
        abort(of_refusal(refusal))


def register(app: Flask) -> None:
    """Answer every failure of `app` with a problem; its log entries name the request."""
    app.logger.addFilter(name_request)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        told = problem(status, _CODES.get(status, "invalid_request"), error.description or error.name)
        told.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
        return told

    @app.errorhandler(InvalidField)
    def invalid(error: InvalidField) -> Response:
        return problem(400, "invalid_value", str(error), error.field)

    @app.errorhandler(NoRoom)
    def no_room(error: NoRoom) -> Response:
        return problem(409, "conflict", str(error), error.field)

    @app.errorhandler(InvalidPolicy)
    def unsound(error: InvalidPolicy) -> Response:
        return problem(400, "invalid_value", "; ".join(map(str, error.faults)), error.faults[0].field)

    @app.errorhandler(NotFound)
    def missing(error: NotFound) -> Response:
        return problem(404, "not_found", str(error))

    @app.errorhandler(Conflict)
    def conflict(error: Conflict) -> Response:
        return problem(409, "conflict", str(error))

    @app.errorhandler(BrokerUnavailable)
    @app.errorhandler(StoreUnavailable)
    def outage(error: BrokerUnavailable | StoreUnavailable) -> Response:
        app.logger.warning("%s: %s", type(error).__name__, error)
        return of_refusal(refusal_of_outage(error))

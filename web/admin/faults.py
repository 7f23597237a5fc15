"""What does a visitor see when a page cannot be given?"""

from __future__ import annotations

from flask import Blueprint, make_response, render_template
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from qosqueue.errors import BrokerUnavailable, NotFound, StoreUnavailable

RETRY_AFTER_S = 5


def add_handlers(pages: Blueprint) -> None:
    """Draw refusals and outages as pages. What is not expected here is left to the app."""
    pages.register_error_handler(HTTPException, _refused)
    pages.register_error_handler(NotFound, lambda error: _page(404, "Not found", str(error)))
    pages.register_error_handler(StoreUnavailable, lambda error: _outage("The database is unavailable", str(error)))
    pages.register_error_handler(BrokerUnavailable, lambda error: _outage("The broker is unavailable", str(error)))


def _refused(error: HTTPException) -> Response:
    if error.response is not None:
        # It brings its own page, as the limiter's refusal does.
        return error.get_response()
    titles = {400: "This form is out of date", 403: "Not allowed", 404: "Not found"}
    details = {
        400: "Go back, load the page again and send it once more. Nothing was changed.",
        403: "Your role does not allow this. Nothing was changed.",
    }
    code = error.code or 500
    return _page(code, titles.get(code, error.name), details.get(code, error.description or ""))


def _outage(title: str, detail: str) -> Response:
    answer = _page(503, title, detail)
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


def _page(status: int, title: str, detail: str) -> Response:
    return make_response(render_template("admin/fault.html", title=title, detail=detail), status)

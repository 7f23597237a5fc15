"""What does a visitor see when a page cannot be given?"""

from __future__ import annotations

from flask import Blueprint, current_app, g, make_response, render_template
from flask_wtf.csrf import CSRFError  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from qosqueue.errors import BrokerUnavailable, NotFound, StoreUnavailable

RETRY_AFTER_S = 5


def add_handlers(pages: Blueprint) -> None:
    """Draw refusals and outages as pages. What is not expected here is left to the app."""
    pages.register_error_handler(HTTPException, _refused)
    pages.register_error_handler(CSRFError, _without_token)
    pages.register_error_handler(NotFound, lambda error: _page(404, "Not found", str(error)))
    pages.register_error_handler(StoreUnavailable, lambda error: _outage("The database is unavailable", error))
    pages.register_error_handler(BrokerUnavailable, lambda error: _outage("The broker is unavailable", error))


def _refused(error: HTTPException) -> Response:
    if error.response is not None:
        # It brings its own page, as the limiter's refusal does.
        return error.get_response()
    titles = {403: "Not allowed", 404: "Not found"}
    details = {403: "Your role does not allow this. Nothing was changed."}
    code = error.code or 500
    return _page(code, titles.get(code, error.name), details.get(code, error.description or ""))


def _without_token(_error: CSRFError) -> Response:
    detail = "Go back, load the page again and send it once more. Nothing was changed."
    return _page(403, "This form is out of date", detail)


def _outage(title: str, error: BrokerUnavailable | StoreUnavailable) -> Response:
    # The login page meets outages too, and strangers need no addresses and paths.
    current_app.logger.warning("%s: %s", type(error).__name__, error)
    request_id = g.get("request_id")
    answer = _page(503, title, f"The log says why{f', with request {request_id}' if request_id else ''}.")
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


def _page(status: int, title: str, detail: str) -> Response:
    return make_response(render_template("admin/fault.html", title=title, detail=detail), status)

"""How does a user get in and out?

An unknown name and a wrong password get the same answer in the same time. Ten bad tries a minute from one
address are answered; then 429 until the minute is over. The count is in Redis; without Redis each process counts
for itself. Tries that run at the same moment are counted when they end, so a burst can exceed ten by the number
of web threads.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, g, make_response, redirect, render_template, request, url_for
from flask_limiter import Limiter, RequestLimit
from flask_login import login_user, logout_user  # type: ignore[import-untyped]
from werkzeug.wrappers import Response as AnyResponse

from qosqueue.service.users import Users
from qosqueue.wiring import Services
from qosqueue_web.admin.access import Visitor, visitor
from qosqueue_web.admin.sessions import SessionLog

BAD_TRIES = "10 per minute"
WINDOW_S = 60

log = logging.getLogger(__name__)


def make_limiter(app: Flask, services: Services) -> Limiter:
    """The limiter of login tries. It shares the services' connections, and with them their time limits."""
    options: dict[str, object] = {"connection_pool": services.redis.connection_pool}
    return Limiter(
        _address,
        app=app,
        storage_uri="redis://",
        storage_options=options,  # type: ignore[arg-type]
        key_prefix=f"{services.settings.group}:login",
        strategy="fixed-window",
        in_memory_fallback_enabled=True,
        # Only the count of one try can be lost, when Redis goes away between check and count.
        swallow_errors=True,
    )


def mount(pages: Blueprint, limiter: Limiter, users: Users, sessions: SessionLog) -> None:
    """Add the login page, the try, and logout."""

    def login() -> AnyResponse:
        if g.visitor is not None:
            return redirect(url_for("admin.home"))
        return _page(200)

    def try_login() -> AnyResponse:
        name, password = request.form.get("name", ""), request.form.get("password", "")
        user = users.check_password(name, password)
        if user is None:
            log.warning("login refused, address %s", _address())
            return _page(401, fault="Name or password is wrong.")
        sessions.begin(user)
        login_user(Visitor(user))
        return redirect(_local(request.form.get("next", "")) or url_for("admin.home"))

    def logout() -> AnyResponse:
        sessions.end(visitor().user)
        logout_user()
        return redirect(url_for("admin.login"))

    limited = limiter.limit(
        BAD_TRIES, deduct_when=lambda response: response.status_code == 401, on_breach=_too_many_tries
    )
    pages.add_url_rule("/login", "login", login)
    pages.add_url_rule("/login", "try_login", limited(try_login), methods=["POST"])
    pages.add_url_rule("/logout", "logout", logout, methods=["POST"])


def _address() -> str:
    return request.remote_addr or "local"


def _too_many_tries(_limit: RequestLimit) -> Response:
    answer = _page(429, fault="Too many wrong tries from your address. Wait a minute, then try again.")
    answer.headers["Retry-After"] = str(WINDOW_S)
    return answer


def _page(status: int, fault: str | None = None) -> Response:
    name, came_for = request.form.get("name", ""), _local(request.values.get("next", ""))
    html = render_template("admin/login.html", fault=fault, name=name, came_for=came_for)
    return make_response(html, status)


def _local(path: str) -> str:
    """The path if it is one of these pages, else nothing: a link to the login page must not lead elsewhere."""
    parts = urlsplit(path)
    inside = path.startswith("/admin/") and not parts.scheme and not parts.netloc
    return path if inside and "\\" not in path and path.isprintable() else ""

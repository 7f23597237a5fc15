"""What is mounted under /admin? Every page, behind one guard: CSRF first, then the right that the page asks for."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, redirect, url_for
from flask_wtf.csrf import CSRFProtect  # type: ignore[import-untyped]
from werkzeug.wrappers import Response

from qosqueue.service.login_sessions import LoginSessions
from qosqueue.wiring import Services
from qosqueue_web.admin import (
    access,
    budgets,
    faults,
    jobs,
    limits,
    login,
    overrides,
    policy,
    purge,
    queues,
    sessions,
    shown,
    tenants,
)

WEB = Path(__file__).resolve().parent.parent


def register(app: Flask, services: Services) -> None:
    """Mount the admin pages on `app`, which has a secret key and the headers of web/security.py.

    Reads `app.config["ADMIN_HTTPS"]` (default False, right for loopback): True gives the session cookie the
    `__Host-` prefix and the Secure flag, and must be set whenever the pages are reached over https. The scheme
    cannot be known at the start, and a Secure cookie over plain http would make every login fail.
    """
    log = sessions.SessionLog(LoginSessions(services.store))
    sessions.configure_cookies(app)
    # The API on the same app has bearer keys and no cookie: only the pages are checked, by their own guard.
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False
    # A form stays good as long as the session, which ends by itself.
    app.config.setdefault("WTF_CSRF_TIME_LIMIT", None)
    # No page sends a referrer (web/security.py), which Flask-WTF would ask for over https; the token is the check.
    app.config["WTF_CSRF_SSL_STRICT"] = False
    csrf = CSRFProtect(app)
    access.install_login(app, services.users, log)

    pages = Blueprint(
        "admin",
        __name__,
        url_prefix="/admin",
        template_folder=str(WEB / "templates"),
        static_folder=str(WEB / "static"),
        static_url_path="/static",
    )
    pages.before_request(csrf.protect)
    pages.before_request(access.guard)
    pages.context_processor(access.in_templates)
    shown.add_filters(app)
    faults.add_handlers(pages)
    pages.add_url_rule("/", "home", _home)
    login.mount(pages, login.make_limiter(app, services), services.users, log)
    tenants.mount(pages, services.accounts)
    queues.mount(pages, services.queues)
    jobs.mount(pages, services.accounts, services.jobs)
    purge.mount(pages, services.purges)
    limits.mount(pages, services.accounts, services.breakers, services.limits)
    policy.mount(pages, services.policies, services.catalog)
    agreed = services.accounts, services.catalog, services.agreements, services.policies
    overrides.mount(pages, *agreed)
    budgets.mount(pages, *agreed)
    app.register_blueprint(pages)


def _home() -> Response:
    return redirect(url_for("admin.queues"))

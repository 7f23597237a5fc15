"""Who may open which admin page? One table; a page that is not in it opens for nobody."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flask import Flask, Response, abort, g, make_response, redirect, request, url_for
from flask_login import LoginManager, current_user  # type: ignore[import-untyped]
from werkzeug.wrappers import Response as AnyResponse

from qosqueue.service.users import Users
from qosqueue.store.records import Role, User
from qosqueue_web.admin.sessions import SessionLog


class Right(StrEnum):
    """What a page or an operation asks for: nothing, to see, to run queues and jobs, or to change tenants,
    keys and the policy."""

    OPEN = "open"
    SEE = "see"
    RUN = "run"
    CHANGE = "change"


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.OPEN, Right.SEE}),
    Role.OPERATOR: frozenset({Right.OPEN, Right.SEE, Right.RUN}),
    Role.ADMIN: frozenset(Right),
}

PAGES: dict[str, Right] = {
    "admin.static": Right.OPEN,
    "admin.login": Right.OPEN,
    "admin.try_login": Right.OPEN,
    "admin.logout": Right.SEE,
    "admin.home": Right.SEE,
    "admin.queues": Right.SEE,
    "admin.queues_live": Right.SEE,
    "admin.tenants": Right.SEE,
    "admin.tenant": Right.SEE,
    "admin.tenant_jobs": Right.SEE,
    "admin.new_tenant": Right.CHANGE,
    "admin.create_tenant": Right.CHANGE,
    "admin.update_tenant": Right.CHANGE,
    "admin.create_key": Right.CHANGE,
    "admin.revoke_key": Right.CHANGE,
    "admin.purge": Right.RUN,
    "admin.purge_lane": Right.RUN,
    "admin.limits": Right.SEE,
    "admin.set_limit": Right.RUN,
    "admin.lift_limit": Right.RUN,
    "admin.trip_breaker": Right.RUN,
    "admin.reset_breaker": Right.RUN,
    "admin.policy": Right.SEE,
    "admin.policy_diff": Right.SEE,
    "admin.policy_version": Right.SEE,
    "admin.rollback_policy": Right.CHANGE,
    "admin.overrides": Right.SEE,
    "admin.set_override": Right.CHANGE,
    "admin.remove_override": Right.CHANGE,
    "admin.budgets": Right.SEE,
    "admin.bound_budget": Right.CHANGE,
}


@dataclass(frozen=True)
class Visitor:
    """A logged-in user, in the shape that Flask-Login asks for."""

    user: User
    is_authenticated: bool = True
    is_active: bool = True
    is_anonymous: bool = False

    def get_id(self) -> str:
        """Id of the user, as kept in the session."""
        return self.user.id

    def may(self, right: Right) -> bool:
        """Whether the user's role holds the right."""
        return right in RIGHTS[self.user.role]


def install_login(app: Flask, users: Users, log: SessionLog) -> None:
    """Give the app Flask-Login: a visitor is known by a live session of a user who still exists."""

    def load(user_id: str) -> Visitor | None:
        user = users.get_user(user_id) if log.is_alive() else None
        return None if user is None else Visitor(user)

    # Its own context processor would load the visitor again, also for the page that tells of an outage.
    manager = LoginManager(app, add_context_processor=False)
    manager.user_loader(load)


def guard() -> AnyResponse | None:
    """Let the request pass, send a stranger to the login page, or refuse with 403."""
    right = PAGES.get(request.endpoint or "")
    if right is None:
        abort(403)
    if request.endpoint == "admin.static":
        return None
    g.visitor = current_user._get_current_object() if current_user.is_authenticated else None
    if right is Right.OPEN:
        return None
    if g.visitor is None:
        return _to_login()
    if not visitor().may(right):
        abort(403)
    return None


def visitor() -> Visitor:
    """The logged-in visitor of a page that the guard let pass."""
    found = g.visitor
    assert isinstance(found, Visitor)
    return found


def actor() -> str:
    """The visitor as the audit log names him."""
    return f"user:{visitor().user.name}"


def in_templates() -> dict[str, object]:
    """What every template sees of the visitor. Asks no database: the page that tells of an outage is a template too."""
    found: Visitor | None = g.get("visitor")
    return {
        "who": None if found is None else found.user,
        "may_run": found is not None and found.may(Right.RUN),
        "may_change": found is not None and found.may(Right.CHANGE),
    }


def _to_login() -> AnyResponse:
    if request.headers.get("HX-Request"):
        # A redirect would be followed and its page put into the fragment's place.
        answer: Response = make_response("", 401)
        answer.headers["HX-Redirect"] = url_for("admin.login")
        return answer
    came_for = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("admin.login", next=came_for))

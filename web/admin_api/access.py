"""Which user does a program act for, and may that user do this? One table; what is not in it is done for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from flask import Response, g, request

from qosqueue.service.user_tokens import UserTokens
from qosqueue.store.records import User
from qosqueue_web.admin.access import RIGHTS, Right
from qosqueue_web.admin_api.problems import problem
from qosqueue_web.api.auth import bearer_key

OPERATIONS: dict[str, Right] = {
    "list_tenants": Right.SEE,
    "get_tenant": Right.SEE,
    "create_tenant": Right.CHANGE,
    "update_tenant": Right.CHANGE,
    "list_keys": Right.SEE,
    "create_key": Right.CHANGE,
    "revoke_key": Right.CHANGE,
    "list_queues": Right.SEE,
    "list_limits": Right.SEE,
    "set_limit": Right.RUN,
    "lift_limit": Right.RUN,
    "list_dead_letters": Right.SEE,
    "replay_dead_letter": Right.RUN,
    "discard_dead_letter": Right.RUN,
    "list_jobs": Right.SEE,
    "get_job": Right.SEE,
    "cancel_job": Right.RUN,
    "rerank_job": Right.RUN,
    "list_models": Right.SEE,
    "list_replicas": Right.SEE,
    "list_audit": Right.SEE,
    "purge_lane": Right.RUN,
    "list_breakers": Right.SEE,
    "trip_breaker": Right.RUN,
    "reset_breaker": Right.RUN,
    "get_policy": Right.SEE,
    "validate_policy": Right.SEE,
    "apply_policy": Right.CHANGE,
    "list_policy_versions": Right.SEE,
    "get_policy_version": Right.SEE,
    "diff_policy": Right.SEE,
    "rollback_policy": Right.CHANGE,
    "list_overrides": Right.SEE,
    "set_override": Right.CHANGE,
    "remove_override": Right.CHANGE,
    "list_scenarios": Right.SEE,
    "bound_scenario": Right.CHANGE,
}


def users_only(tokens: UserTokens) -> Callable[[], Response | None]:
    """A `before_request` that lets pass whom the table allows, before the body is read; 401 and 403 for all others."""

    def check() -> Response | None:
        token = bearer_key(request.headers.get("Authorization", ""))
        user = tokens.authenticate(token) if token else None
        if user is None:
            why = "this token is not valid" if token else "send one token, as `Authorization: Bearer TOKEN`"
            return problem(401, "invalid_token", why)
        operation = (request.endpoint or "").rpartition(".")[2]
        right = OPERATIONS.get(operation)
        if right is None or right not in RIGHTS[user.role]:
            return problem(403, "not_allowed", f"the role {user.role} does not allow this; nothing was changed")
        g.user = user
        return None

    return check


def actor() -> str:
    """The user as the audit log names him; only inside a route behind `users_only`."""
    return f"user:{cast(User, g.user).name}"

"""Which tenant is asking?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from flask import Response, g, request

from qosqueue.policy.refusal import Refusal
from qosqueue.store.records import Tenant
from qosqueue_web.api.errors import error_response

if TYPE_CHECKING:
    from qosqueue.service.accounts import Accounts

# WSGI joins repeated headers with a comma, which no key holds: a request with two keys has none.
_BEARER = re.compile(r"bearer +([A-Za-z0-9_-]{1,128})", re.IGNORECASE)


def bearer_key(authorization: str) -> str | None:
    """The API key of an `Authorization` header; None if it holds no or not exactly one."""
    sent = _BEARER.fullmatch(authorization.strip())
    return sent[1] if sent else None


def tenants_only(accounts: Accounts) -> Callable[[], Response | None]:
    """A `before_request` that lets a tenant's request pass, before its body is read, and answers 401 to all others."""

    def check() -> Response | None:
        key = bearer_key(request.headers.get("Authorization", ""))
        tenant = accounts.authenticate(key) if key else None
        if tenant is None:
            why = "this API key is not valid" if key else "send one API key, as `Authorization: Bearer KEY`"
            return error_response(Refusal(401, "invalid_api_key", why))
        g.tenant = tenant
        return None

    return check


def current_tenant() -> Tenant:
    """The tenant of this request; only inside a route behind `tenants_only`."""
    return cast(Tenant, g.tenant)

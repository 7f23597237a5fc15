"""When does a login begin and end, and what does its cookie look like?

The cookie is signed and holds a random session id. That a session has ended stands in the record, so that a
copied cookie is worth nothing after logout, in every process of the deployment and with the broker away.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from flask import Flask, session

from qosqueue.service.login_sessions import LoginSessions
from qosqueue.store.clock import now_ms
from qosqueue.store.records import User

COOKIE = "qosqueue_admin"
LIFETIME = timedelta(hours=12)
LIFETIME_MS = int(LIFETIME.total_seconds() * 1000)
# Two web hosts may disagree about the time: look this much further back for the end of a session.
CLOCK_SKEW_MS = 3_600_000


def configure_cookies(app: Flask) -> None:
    """Set the session cookie's name and flags; the key that signs it is the app's."""
    https = bool(app.config.setdefault("ADMIN_HTTPS", False))
    app.config.update(
        SESSION_COOKIE_NAME=f"__Host-{COOKIE}" if https else COOKIE,
        SESSION_COOKIE_SECURE=https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        # The prefix demands the root path and no domain.
        SESSION_COOKIE_PATH="/",
        SESSION_COOKIE_DOMAIN=None,
        PERMANENT_SESSION_LIFETIME=LIFETIME,
    )


class SessionLog:
    """The visitor's session. Methods raise StoreUnavailable."""

    def __init__(self, sessions: LoginSessions) -> None:
        self._sessions = sessions

    def begin(self, user: User) -> None:
        """Drop all that the visitor's cookie held and start a session under a new id."""
        session.clear()
        session["sid"] = secrets.token_urlsafe(32)
        session["begun_ms"] = now_ms()
        self._sessions.begin(session["sid"], actor=f"user:{user.name}")

    def end(self, user: User) -> None:
        """End the visitor's session for good."""
        self._sessions.end(session["sid"], actor=f"user:{user.name}")
        session.clear()

    def is_alive(self) -> bool:
        """Whether the visitor's cookie names a session that began less than 12 hours ago and has not ended."""
        sid, begun_ms = session.get("sid"), session.get("begun_ms")
        if not isinstance(sid, str) or not isinstance(begun_ms, int) or now_ms() - begun_ms > LIFETIME_MS:
            return False
        return not self._sessions.has_ended(sid, since_ms=begun_ms - CLOCK_SKEW_MS)

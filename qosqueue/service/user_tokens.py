"""With what does a program show which user of the admin API it acts for?

A token does what its user's role may; it is shown once, and the record keeps only its hash.
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import select

from qosqueue.errors import NotFound
from qosqueue.service import audit
from qosqueue.service.fields import may_be_recorded
from qosqueue.store.clock import now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.records import NewUserToken, User, UserToken, user_of, user_token_of
from qosqueue.store.session import Store
from qosqueue.store.tables import UserRow, UserTokenRow

TOKEN_START = "qu_"
TOKEN_RANDOM_BYTES = 32
PREFIX_CHARS = 8


class UserTokens:
    """Tokens of users. Every change leaves an audit entry in the same transaction; all raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, user_name: str, *, actor: str) -> NewUserToken:
        """Make a token for the user of that name; raises NotFound."""
        secret = secrets.token_urlsafe(TOKEN_RANDOM_BYTES)
        token, prefix = TOKEN_START + secret, secret[:PREFIX_CHARS]
        with self._store.change() as session:
            user = None
            if may_be_recorded(user_name):
                user = session.scalar(select(UserRow).where(UserRow.name == user_name))
            if user is None:
                raise NotFound(f"no user {user_name!r}")
            row = UserTokenRow(
                id=new_id("tok"), user_id=user.id, prefix=prefix, sha256=_hash(token), created_ms=now_ms()
            )
            session.add(row)
            after = {"user": user.name, "prefix": prefix}
            audit.append(session, actor=actor, action="token.create", subject=row.id, after=after)
            return NewUserToken(id=row.id, token=token, prefix=prefix, user=user.name)

    def list(self) -> list[UserToken]:
        """All tokens, oldest first, revoked ones too."""
        query = select(UserTokenRow, UserRow.name).join(UserRow, UserRow.id == UserTokenRow.user_id)
        with self._store.session() as session:
            found = session.execute(query.order_by(UserTokenRow.created_ms, UserTokenRow.id))
            return [user_token_of(row, name) for row, name in found]

    def revoke(self, token_id: str, *, actor: str) -> None:
        """End a token, at once everywhere. A second time changes nothing. Raises NotFound."""
        with self._store.change() as session:
            row = None
            if may_be_recorded(token_id):
                row = session.scalar(select(UserTokenRow).where(UserTokenRow.id == token_id).with_for_update())
            if row is None:
                raise NotFound(f"no token {token_id!r}")
            if row.revoked_ms is None:
                row.revoked_ms = now_ms()
                after = {"revoked_ms": row.revoked_ms}
                audit.append(session, actor=actor, action="token.revoke", subject=row.id, after=after)

    def authenticate(self, token: str) -> User | None:
        """The user whose token this is; None for one that is unknown or revoked. Found by its hash: how long the search
        takes tells nothing of it."""
        if not token.startswith(TOKEN_START):
            return None
        query = (
            select(UserRow)
            .join(UserTokenRow, UserTokenRow.user_id == UserRow.id)
            .where(UserTokenRow.sha256 == _hash(token), UserTokenRow.revoked_ms.is_(None))
        )
        with self._store.session() as session:
            row = session.scalar(query)
            return None if row is None else user_of(row)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()

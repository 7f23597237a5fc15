"""Who may log in to the admin pages?"""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from qosqueue.errors import Conflict, InvalidField
from qosqueue.service import audit
from qosqueue.service.fields import USER_NAME, checked_choice, checked_name, may_be_recorded
from qosqueue.store.clock import now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.records import Role, User, user_of
from qosqueue.store.session import Store
from qosqueue.store.tables import UserRow

# The upper bound keeps a login from costing more than one hash of a short text.
PASSWORD_CHARS = (10, 256)


class Users:
    """People and their passwords (argon2). All methods raise StoreUnavailable."""

    def __init__(self, store: Store, hasher: PasswordHasher | None = None) -> None:
        self._store = store
        self._hasher = hasher or PasswordHasher()

    def create_user(self, name: str, password: str, role: Role | str, actor: str) -> User:
        """Let somebody in, with an audit entry. Raises InvalidField, Conflict if the name is taken."""
        checked_name("name", name, USER_NAME)
        checked_role = checked_choice("role", role, Role)
        if not PASSWORD_CHARS[0] <= len(password) <= PASSWORD_CHARS[1]:
            raise InvalidField("password", f"{PASSWORD_CHARS[0]} to {PASSWORD_CHARS[1]} characters", len(password))
        hashed = self._hasher.hash(_bytes(password))
        with self._store.change() as session:
            row = UserRow(
                id=new_id("usr"), name=name, password_hash=hashed, role=checked_role.value, created_ms=now_ms()
            )
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"name: a user named {name!r} exists already") from error
            audit.append(
                session, actor=actor, action="user.create", subject=row.id, after={"name": name, "role": row.role}
            )
            return user_of(row)

    def check_password(self, name: str, password: str) -> User | None:
        """The user if name and password fit, else None; an unknown name takes as long as a wrong password."""
        if len(password) > PASSWORD_CHARS[1]:
            return None
        row = None
        if USER_NAME.pattern.fullmatch(name) is not None:
            with self._store.session() as session:
                row = session.scalar(select(UserRow).where(UserRow.name == name))
        if row is None:
            # Making a hash is the same work as checking one.
            self._hasher.hash(_bytes(password))
            return None
        try:
            self._hasher.verify(row.password_hash, _bytes(password))
        except VerifyMismatchError:
            return None
        return user_of(row)

    def get_user(self, user_id: str) -> User | None:
        """The user of that id, None if there is none (any more)."""
        if not may_be_recorded(user_id):
            return None
        with self._store.session() as session:
            row = session.get(UserRow, user_id)
            return None if row is None else user_of(row)

    def count(self) -> int:
        """How many people may log in."""
        with self._store.session() as session:
            return session.scalar(select(func.count()).select_from(UserRow)) or 0


def _bytes(password: str) -> bytes:
    # What a browser sends may hold half a character; it is wrong then, not an error.
    return password.encode("utf-8", "surrogatepass")

"""How is the record reached? One engine a process, short sessions, and one clear line when it cannot be."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from qosqueue.errors import SettingsError, StoreUnavailable
from qosqueue.store.clock import monotonic_ms

BUSY_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_S = 2
RETRY_S = 0.01
UNDEFINED_TABLE = "42P01"
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Store:
    """The open record. Safe to share between threads; not between processes made by fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises.

        Raises StoreUnavailable if the database cannot be reached, is locked past the busy timeout, is full or
        has no tables; nothing of the block was kept then.
        """
        with self._told_plainly(), self._sessions.begin() as session:
            yield session

    @contextmanager
    def change(self) -> Iterator[Session]:
        """A session for what is read first and written after: on SQLite it holds the write lock from the start.

        Without it two writers could both read the old row; SQLite refuses the second at once, whatever the busy
        timeout is. On PostgreSQL lock the rows that you read (`with_for_update`).
        """
        with self.session() as session:
            if self.engine.dialect.name == "sqlite":
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def ping(self) -> None:
        """Ask the database for one value; raises StoreUnavailable."""
        with self.session() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every pooled connection; the store must not be used after."""
        self.engine.dispose()

    @contextmanager
    def _told_plainly(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"{self._where()}: every connection is in use") from error
        except DBAPIError as error:
            if not _is_outage(error):
                raise
            first_line = str(error.orig).strip().partition("\n")[0]
            raise StoreUnavailable(f"{self._where()}: {first_line}") from error

    def _where(self) -> str:
        return f"database {self.engine.url.render_as_string(hide_password=True)}"


def open_store(url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Store:
    """Open the record at a SQLAlchemy URL of SQLite or PostgreSQL; connects at the first use.

    `busy_timeout_ms` bounds the wait for a lock and for a pooled connection. Raises SettingsError for a URL that
    is malformed, of another database, or whose driver is not installed.
    """
    parsed = parse_url(url)
    try:
        if parsed.get_backend_name() == "sqlite":
            engine = _sqlite_engine(parsed, busy_timeout_ms)
        else:
            engine = _postgresql_engine(parsed, busy_timeout_ms)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise SettingsError(
            f"QOSQUEUE_DATABASE_URL: expected an installed driver (pip install 'qosqueue[postgres]'), got {error}"
        ) from error
    return Store(engine)


def parse_url(url: str) -> URL:
    """The parts of a SQLAlchemy URL; raises SettingsError for all but SQLite files and PostgreSQL."""
    expected = "sqlite:////absolute/path or postgresql://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError(f"QOSQUEUE_DATABASE_URL: expected {expected}, got something that is no URL") from error
    backend = parsed.get_backend_name()
    # Every connection of the pool would see a memory database of its own.
    if backend not in ("sqlite", "postgresql") or (backend == "sqlite" and parsed.database in (None, "", ":memory:")):
        raise SettingsError(
            f"QOSQUEUE_DATABASE_URL: expected {expected}, got {parsed.render_as_string(hide_password=True)!r}"
        )
    return parsed


# Parameters are hidden in both: the text of an SQL error gets into logs, and a prompt must not.
def _sqlite_engine(url: URL, busy_timeout_ms: int) -> Engine:
    engine = create_engine(
        url,
        # Threads queue for SQLite's one write lock, not for a connection.
        pool_size=8,
        max_overflow=128,
        pool_timeout=busy_timeout_ms / 1000,
        connect_args={"timeout": busy_timeout_ms / 1000},
        hide_parameters=True,
        json_serializer=_encode,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms:d}")
        _switch_to_wal(cursor, busy_timeout_ms)
        # NORMAL syncs a WAL only at its checkpoints: a power cut could take back committed rows, and with them
        # jobs whose tenants were told that they are accepted.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    return engine


def _switch_to_wal(cursor: sqlite3.Cursor, busy_timeout_ms: int) -> None:
    """Writers stop no readers then. The file remembers it: only the first connections of its life change anything.

    SQLite heeds its busy timeout everywhere but here, where two that open a new file at once stop each other.
    """
    give_up_ms = monotonic_ms() + busy_timeout_ms
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic_ms() >= give_up_ms:
                raise
            time.sleep(RETRY_S)


def _postgresql_engine(url: URL, busy_timeout_ms: int) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        pool_timeout=busy_timeout_ms / 1000,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        hide_parameters=True,
        json_serializer=_encode,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = {busy_timeout_ms:d}")
        cursor.close()
        connection.commit()

    return engine


def _is_outage(error: DBAPIError) -> bool:
    """Whether the database, not the statement, is at fault. A missing table is: nobody ran the migrations."""
    return (
        isinstance(error, OperationalError)
        # SQLite's own word for a file that is damaged or no database.
        or type(error) is DatabaseError
        or error.connection_invalidated
        or getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE
    )

"""Has the database the tables that this version needs, and how does it get them?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.orm import Session

from qosqueue.errors import StoreUnavailable
from qosqueue.store.seed import seed_tiers
from qosqueue.store.session import Store, open_store, parse_url

# Any fixed number: two processes that upgrade the same database take turns at it.
UPGRADE_LOCK = 7_160_001


def upgrade(url: str) -> None:
    """Bring the database to this version's tables and seed it; makes a SQLite file and its folder if needed.

    All or nothing: a failed migration leaves the database as it was. Raises StoreUnavailable or SettingsError.
    """
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    store = open_store(url)
    try:
        with _alembic(store) as (config, session):
            command.upgrade(config, "head")
            seed_tiers(session)
    finally:
        store.close()


def downgrade(url: str, revision: str) -> None:
    """Take the tables back to an older revision ("base": none); what the newer tables held is lost.

    All or nothing. Raises StoreUnavailable or SettingsError.
    """
    store = open_store(url)
    try:
        with _alembic(store) as (config, _session):
            command.downgrade(config, revision)
    finally:
        store.close()


def is_current(url: str) -> bool:
    """Whether the database is there and at this version's tables; makes nothing. Raises StoreUnavailable."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return False
    store = open_store(url)
    try:
        with store.session() as session:
            present = MigrationContext.configure(session.connection()).get_current_heads()
    finally:
        store.close()
    return set(present) == set(ScriptDirectory.from_config(_config()).get_heads())


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL, None for a database server."""
    parsed = parse_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


@contextmanager
def _alembic(store: Store) -> Iterator[tuple[Config, Session]]:
    """Alembic's configuration on one transaction of the store, and its session; one process at a time."""
    with store.change() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        yield config, session


def _config() -> Config:
    package = find_spec("qosqueue_migrations")
    if package is None or not package.submodule_search_locations:
        raise StoreUnavailable("package qosqueue_migrations: expected it to be installed, got nothing")
    config = Config()
    # Alembic reads the location as an ini value, where a percent sign starts a substitution.
    config.set_main_option("script_location", package.submodule_search_locations[0].replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config

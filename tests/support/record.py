"""Which record do the tests run on? SQLite in a temporary folder, or that and PostgreSQL in turn.

Fixtures: `sqlite_url` (no file yet), `empty_url` (each database in turn, no tables), `record_url` (each in turn,
migrated), `record` (the open store on it).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qosqueue.store.session import Store, open_store
from tests.support.tables import make_tables

pytest_plugins = ["tests.support.postgres"]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'qosqueue.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest) -> str:
    """URL of a database without tables."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def record_url(empty_url: str) -> str:
    """URL of a migrated database."""
    make_tables(empty_url)
    return empty_url


@pytest.fixture
def record(record_url: str) -> Iterator[Store]:
    """The open store on a migrated database."""
    store = open_store(record_url)
    yield store
    store.close()

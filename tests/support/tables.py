"""How does a test get a database with this version's tables? SQLite: as a copy of one that was migrated once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from qosqueue.store.schema import sqlite_file, upgrade


def make_tables(url: str) -> None:
    """What `upgrade` does. Most tests need the tables and not the way to them, which takes 50 ms of each."""
    file = sqlite_file(url)
    if file is None or file.exists():
        upgrade(url)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory(prefix="qq-") as folder:
        file = Path(folder) / "qosqueue.db"
        upgrade(f"sqlite:///{file}")
        # One file: the last connection to close takes the write-ahead log into it.
        assert [*Path(folder).iterdir()] == [file]
        return file.read_bytes()

"""Who may read what a home holds? Its owner alone: prompts are in the database, and addresses in the logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from qosqueue.errors import SettingsError
from qosqueue.settings import Settings
from qosqueue.store.schema import sqlite_file

OTHERS = 0o077


def keep_private(settings: Settings) -> None:
    """Take the rights of others from the home, its logs and its database, and from all that is made from now on.

    The mask is the process's, and its children inherit it. Raises SettingsError with one line.
    """
    os.umask(OTHERS)
    for path in _kept(settings):
        try:
            mode = path.stat().st_mode & 0o777
        except FileNotFoundError:
            continue  # SQLite takes its side files away when the last process lets go of them
        if mode & OTHERS:
            try:
                path.chmod(mode & ~OTHERS)
            except OSError as error:
                raise SettingsError(
                    f"{path}: expected a file or folder of this user, readable by nobody else: {error.strerror}"
                ) from error


def _kept(settings: Settings) -> Iterator[Path]:
    yield settings.home
    logs = settings.home / "logs"
    if logs.is_dir():
        yield logs
        yield from (path for path in logs.iterdir() if path.is_file())
    database = sqlite_file(settings.sql_url())
    # A database elsewhere may be shared on purpose.
    if database is not None and database.parent.resolve() == settings.home.resolve():
        yield from (path for path in database.parent.glob(f"{database.name}*") if path.is_file())

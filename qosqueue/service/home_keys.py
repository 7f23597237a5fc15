"""With which keys are sessions and webhooks signed? With files of the home, each made once at random."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from qosqueue.errors import SettingsError

SESSION_FILE = "secret_key"
WEBHOOK_FILE = "webhook_key"
RANDOM_BYTES = 48
MIN_BYTES = 32


def session_key(home: Path) -> bytes:
    """What signs sessions: whoever deletes its file logs everybody out. Raises SettingsError with one line."""
    return _key(home / SESSION_FILE)


def webhook_key(home: Path) -> bytes:
    """What the secrets of webhooks are derived from: without its file all of them are others.

    Raises SettingsError with one line.
    """
    return _key(home / WEBHOOK_FILE)


def _key(path: Path) -> bytes:
    """The key; made if there is none, readable by its owner only.

    Several processes may start at the same moment: each writes a file of its own, and the first to link it wins, so
    nobody ever reads half a key.
    """
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"{path}: expected a file that this user may read: {error.strerror}") from error
    if len(key) < MIN_BYTES:
        raise SettingsError(
            f"{path}: expected at least {MIN_BYTES} bytes, got {len(key)}; delete it, and the next start makes another"
        )
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(RANDOM_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(mine, path)
    except FileExistsError:
        return  # another process was first: its key holds
    finally:
        mine.unlink()

"""Which `qosqueue up` serves a home, and on which port?

The lock is the kernel's and ends with its holder, so a killed `up` leaves no stale claim behind.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from qosqueue.errors import Conflict, SettingsError

FILE = "up.lock"


@dataclass(frozen=True)
class Serving:
    """The running `up` of a home: its process, and its port once it listens (else 0)."""

    pid: int
    port: int


class Claim:
    """A home that this process holds."""

    def __init__(self, lock: int) -> None:
        self._lock = lock

    def tell(self, port: int) -> None:
        """Write down who holds the home, for those who ask."""
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(asdict(Serving(os.getpid(), port))).encode(), 0)


@contextmanager
def hold(home: Path) -> Iterator[Claim]:
    """Claim the home for this process.

    Raises Conflict with one line if another `up` has it, SettingsError if it is no folder that this user may write.
    """
    try:
        lock = os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"QOSQUEUE_HOME: expected a folder that this user may write, got {home} ({error.strerror})"
        ) from error
    try:
        if not _try_lock(lock):
            other = _read(lock)
            who = f"process {other.pid}, port {other.port}" if other else "another process"
            raise Conflict(f"qosqueue already runs on {home} ({who}): stop it, or choose another QOSQUEUE_HOME")
        claim = Claim(lock)
        claim.tell(0)
        yield claim
    finally:
        os.close(lock)


def serving(home: Path) -> Serving | None:
    """The `up` that serves the home now, or None."""
    try:
        lock = os.open(home / FILE, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _try_lock(lock) else _read(lock)
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(lock: int) -> Serving | None:
    try:
        return Serving(**json.loads(os.pread(lock, 4096, 0)))
    except (ValueError, TypeError):  # its holder is just writing it
        return None

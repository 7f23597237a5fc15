"""How does a test that times something run alone, though several processes share the suite (`pytest -n`)?

Marked `alone`, it has the room to itself; all others share it. Who waits for the room holds the door, so that nobody
who comes later gets in before. Both are locks on what is there anyway: they leave nothing and end with their process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import pytest

DOOR = Path(__file__)
ROOM = DOOR.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They come last, so that they wait for no long test, and no long one waits for them."""
    items.sort(key=_alone)


# First, so outside of pytest-timeout: the wait for others is not the test's own time.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run one test, with its fixtures, in the room."""
    door, room = (os.open(path, os.O_RDONLY) for path in (DOOR, ROOM))
    try:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if _alone(item) else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)
    finally:
        for lock in (door, room):
            # Closing is not enough: a process that the test has forked may have it open too.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def _alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None

"""At what instant was each request published, started and ended? One file a process, read when all are over.

Instants are CLOCK_MONOTONIC in ns: one clock for all processes of a machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

Event = Literal["published", "started", "ended"]
SUFFIX = ".journal"


class Journal:
    """One process's own file; each entry is one write, so threads need no lock."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, event: Event, number: int) -> None:
        """This happens to the request now."""
        os.write(self._file, f"{event} {number} {time.monotonic_ns()}\n".encode())


def read(folder: Path, event: Event) -> dict[int, int]:
    """The instant of the event for each request that it has happened to; the first, should it happen twice."""
    instants: dict[int, int] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        for line in path.read_text("ascii").splitlines():
            what, number, at_ns = line.split()
            if what == event:
                instants[int(number)] = min(int(at_ns), instants.get(int(number), int(at_ns)))
    return instants

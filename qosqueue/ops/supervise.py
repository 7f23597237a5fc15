"""Which parts run, and what happens when one ends?

Parts start in order and are drained in the reverse order. One that ends by itself is told about and started
again after a pause that doubles from 0.5 s to 30 s, and falls back once it has lived for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qosqueue.errors import QosqueueError
from qosqueue.ops.child import Child, describe_end, kill_group, last_line

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0
LOOK_EVERY_S = 1.0
# A request that is open so long after a stop was asked for is cut; its attempt runs on until the worker's grace ends.
WEB_CUTS_AFTER_S = 25
WORKER_GRACE_S = 30.0
STOPPING = (
    f"stopping: waiting for running requests, up to {WEB_CUTS_AFTER_S} s, and for running jobs, up to"
    f" {WORKER_GRACE_S:g} s more (Ctrl-C again ends them now)"
)

# Waits at most so many seconds; the number of times that a stop was asked for so far.
Wait = Callable[[float], int]


class StartFailed(QosqueueError):
    """A part of the system did not come up; the text is one line with the part's own last words."""


@dataclass(frozen=True)
class Part:
    """One process to keep alive. `grace_s`: time between SIGTERM and SIGKILL when it is drained."""

    name: str
    start: Callable[[], Child]
    log: Path
    grace_s: float = 10.0


@dataclass
class _Kept:
    part: Part
    child: Child | None
    started_s: float
    early_ends: int = 0
    again_at_s: float = 0.0


class Supervisor:
    """Keeps parts alive. `tell` takes one line for the operator; `clock` is in seconds.

    While a part runs, `pids` (a folder; None: nowhere) holds its process id as `NAME.pid`.
    """

    def __init__(
        self,
        *,
        wait: Wait,
        tell: Callable[[str], None],
        pids: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wait = wait
        self._tell = tell
        self._pids = pids
        self._clock = clock
        self._kept: list[_Kept] = []

    def start(self, part: Part) -> None:
        """Start a part and keep it from now on."""
        child = part.start()
        self._kept.append(_Kept(part, child, self._clock()))
        self._write_pid(part, child)

    def require_all_alive(self) -> None:
        """During start-up no part is started again: raises StartFailed for the first that has ended."""
        for kept in self._kept:
            code = None if kept.child is None else kept.child.poll()
            if code is not None:
                raise StartFailed(f"{kept.part.name} ended with {describe_end(code)}: {last_line(kept.part.log)}")

    def serve(self) -> None:
        """Keep all parts alive until a stop is asked for."""
        while not self._wait(self._idle_s()):
            self.look()

    def look(self) -> None:
        """Tell of the parts that have ended, and start those whose pause is over."""
        for kept in self._kept:
            if kept.child is not None and (code := kept.child.poll()) is not None:
                self._ended(kept, code)
            if kept.child is None and self._clock() >= kept.again_at_s:
                self._start_again(kept)

    def drain(self) -> None:
        """End all parts, the last started first, each within its grace; a further stop signal cuts the grace.

        Somebody who asked for the stop is told what is waited for, and of each end.
        """
        asked_before = self._wait(0)
        if asked_before and self._kept:
            self._tell(STOPPING)
        while self._kept:
            kept = self._kept.pop()
            if kept.child is not None:
                self._end(kept.part, kept.child, asked_before)

    def _end(self, part: Part, child: Child, asked_before: int) -> None:
        until = self._clock() + part.grace_s
        if child.poll() is None:
            child.terminate()
        ended = ""
        while not ended and child.poll() is None:
            left_s = until - self._clock()
            if left_s <= 0:
                ended = "did not end in time: killed"
            elif self._wait(min(left_s, LOOK_EVERY_S)) > asked_before and child.poll() is None:
                ended = "killed"
        if ended or asked_before:
            self._tell(f"{part.name} {ended or 'has ended'}")
        kill_group(child)
        self._drop_pid(part)
        # Nothing survives SIGKILL; this only collects the exit code.
        while child.poll() is None:
            self._wait(LOOK_EVERY_S)

    def _ended(self, kept: _Kept, code: int) -> None:
        if kept.child is not None:
            kill_group(kept.child)
            self._drop_pid(kept.part)
        kept.child = None
        if self._clock() - kept.started_s >= HEALTHY_AFTER_S:
            kept.early_ends = 0
        log = kept.part.log
        self._pause(kept, f"ended with {describe_end(code)}; last line of {log}: {last_line(log)}")

    def _start_again(self, kept: _Kept) -> None:
        try:
            kept.child = kept.part.start()
        except (QosqueueError, OSError) as error:
            self._pause(kept, f"could not be started: {error}")
        else:
            kept.started_s = self._clock()
            self._write_pid(kept.part, kept.child)
            self._tell(f"{kept.part.name} is started again (process {kept.child.pid})")

    def _pause(self, kept: _Kept, what: str) -> None:
        pause_s = min(FIRST_PAUSE_S * 2**kept.early_ends, LONGEST_PAUSE_S)
        kept.early_ends += 1
        kept.again_at_s = self._clock() + pause_s
        self._tell(f"{kept.part.name} {what}; next try in {pause_s:g} s")

    def _write_pid(self, part: Part, child: Child) -> None:
        if self._pids is None:
            return
        try:
            self._pids.mkdir(parents=True, exist_ok=True)
            (self._pids / f"{part.name}.pid").write_text(f"{child.pid}\n")
        except OSError as error:
            # A full disk must not end what still serves.
            self._tell(f"the pid file of {part.name} cannot be written: {error.strerror}")

    def _drop_pid(self, part: Part) -> None:
        if self._pids is not None:
            (self._pids / f"{part.name}.pid").unlink(missing_ok=True)

    def _idle_s(self) -> float:
        due = [kept.again_at_s - self._clock() for kept in self._kept if kept.child is None]
        return max(0.0, min([LOOK_EVERY_S, *due]))

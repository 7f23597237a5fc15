"""How is a part of the system started so that nothing of it outlives the supervisor?"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

PR_SET_PDEATHSIG = 1
TAIL_BYTES = 8192


class Child(Protocol):
    """What the supervisor needs of a process: `subprocess.Popen` has it."""

    @property
    def pid(self) -> int:
        """Process id, and id of the process group that it leads."""

    def poll(self) -> int | None:
        """Exit code, minus the signal's number, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    keep_open: Sequence[int] = (),
    when_orphaned: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; both its outputs are added to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(keep_open),
            process_group=0,
            preexec_fn=ends_with_parent(when_orphaned),
        )


def ends_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """To run between fork and exec: the kernel sends that signal when the parent dies, however. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here: between fork and exec nothing may be imported or loaded.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask_kernel


def kill_group(child: Child) -> None:
    """SIGKILL for all that is left of the child's process group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def describe_end(code: int) -> str:
    """The exit code of a process in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def last_line(log: Path) -> str:
    """Last line with something in it of a log file, or a remark that there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return "(no log)"
    return next((line.strip() for line in reversed(lines) if line.strip()), "(empty log)")

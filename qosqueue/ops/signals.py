"""Has somebody asked to stop, and may the wait for it end sooner because a child ended?

Handlers only write a byte to a pipe (through Python's wake-up descriptor), so nothing runs in the middle of
other code, and one `select` waits for time, signals and children at once.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Signals:
    """Context (main thread only) in which stop signals are counted instead of ending the process."""

    def __enter__(self) -> Self:
        self._asked = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._old_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._old: dict[signal.Signals, Any] = {
            number: signal.signal(number, _noted) for number in (*STOP_SIGNALS, signal.SIGCHLD)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_descriptor)
        os.close(self._read)
        os.close(self._write)

    def wait(self, timeout_s: float) -> int:
        """Wait at most `timeout_s`, less if any signal comes; how often a stop was asked for since the start."""
        ready, _, _ = select.select([self._read], [], [], max(0.0, timeout_s))
        if ready:
            self._asked += sum(number in STOP_SIGNALS for number in os.read(self._read, 4096))
        return self._asked


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The signal's number is in the pipe already; a handler must exist for Python to write it there."""

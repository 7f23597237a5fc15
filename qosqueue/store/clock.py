"""What time is it, for the record and for what is kept in memory?"""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds since the epoch, by this machine's wall clock: what `*_ms` columns hold."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds of a clock that is never set back; only differences mean something."""
    return time.monotonic_ns() // 1_000_000

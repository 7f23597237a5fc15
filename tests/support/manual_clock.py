"""What time is it in a test? What the test says."""

from __future__ import annotations


class ManualClock:
    """Milliseconds that pass only when the test adds to `ms`."""

    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        return self.ms

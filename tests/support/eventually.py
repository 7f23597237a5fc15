"""How does a test wait for something that another thread or process does? It asks again until a bound."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

ASK_EVERY_S = 0.01


def eventually(check: Callable[[], T], within_s: float) -> T:
    """The first truthy result of `check`, or AssertionError after `within_s` seconds with its last result."""
    pause = Event()
    until = monotonic() + within_s
    while True:
        result = check()
        if result:
            return result
        assert monotonic() < until, f"not within {within_s:g} s; the last answer was {result!r}"
        pause.wait(ASK_EVERY_S)

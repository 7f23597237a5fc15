"""What does a client's library say of itself, unasked: how long it reads, how often it has tried, which trace it is in?

None of it changes who is asking or where the request stands, and a hint that makes no sense is none: it never makes a
request fail. No other header of a tenant gets further than this process: an engine hears of the trace alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRACEPARENT = "traceparent"
# W3C trace context: version (not ff), trace id and parent id (not all zero), flags.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SECONDS = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")
_COUNT = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True)
class Hints:
    """Times in ms; None and 0: the client did not say."""

    read_timeout_ms: int | None = None
    retry_count: int = 0
    traceparent: str | None = None

    def noted(self) -> dict[str, Any]:
        """What the request's record keeps of it."""
        kept = {"retry_count": self.retry_count, "traceparent": self.traceparent}
        return {name: value for name, value in kept.items() if value}


def hints_of(environ: Mapping[str, Any]) -> Hints:
    """The hints in a WSGI request's headers."""
    read_s = environ.get("HTTP_X_STAINLESS_READ_TIMEOUT", "")
    tries = environ.get("HTTP_X_STAINLESS_RETRY_COUNT", "")
    return Hints(
        read_timeout_ms=max(1, int(float(read_s) * 1000)) if _SECONDS.fullmatch(read_s) else None,
        retry_count=int(tries) if _COUNT.fullmatch(tries) else 0,
        traceparent=traceparent_of(environ),
    )


def traceparent_of(environ: Mapping[str, Any]) -> str | None:
    """The trace that the client's request belongs to."""
    given = environ.get("HTTP_TRACEPARENT", "")
    return given if _TRACEPARENT.fullmatch(given) else None

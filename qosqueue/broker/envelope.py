"""What does the order need to know of a Celery message, and what if the message does not say?

A request of qosqueue carries the header `qos`. Any other Celery task (of beat, of a host project) is queued by
arrival within the band of its Celery priority, and never expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qosqueue.policy.terms import PRIORITY_RANGES, TIERS

HEADER = "qos"
# With more, a rank would no longer be an exact integer, or its deadline run into the next band.
_LONGEST_MS = 2**42
_RANGES = {
    "band": range(len(TIERS)),
    "budget_ms": range(_LONGEST_MS),
    "ttl_ms": range(_LONGEST_MS),
    "max_attempts": range(1, 1001),
}
_FIELDS = ("model", *_RANGES)


@dataclass(frozen=True)
class Envelope:
    """The arguments of the submit script that a message decides. Times in ms from now."""

    task: str
    model: str
    band: int
    budget_ms: int
    ttl_ms: int
    max_attempts: int


def qos_header(*, model: str, band: int, budget_ms: int, ttl_ms: int, max_attempts: int) -> dict[str, Any]:
    """The `headers=` argument of apply_async for a request."""
    return {
        HEADER: {
            "model": model,
            "band": band,
            "budget_ms": budget_ms,
            "ttl_ms": ttl_ms,
            "max_attempts": max_attempts,
        }
    }


def envelope_of(lane: str, message: dict[str, Any], max_attempts: int) -> Envelope:
    """The envelope of a Kombu message; raises ValueError if its header is malformed."""
    headers, properties = message.get("headers") or {}, message["properties"]
    task = headers.get("id") or properties["delivery_tag"]
    qos = headers.get(HEADER)
    if qos is None:
        return Envelope(task, "", band_of_priority(properties.get("priority") or 0), 0, 0, max_attempts)
    if not isinstance(qos, dict) or set(qos) != set(_FIELDS):
        raise ValueError(f"header {HEADER!r} of a message for {lane}: expected the fields {_FIELDS}, got {qos!r}")
    if not isinstance(qos["model"], str) or any(
        type(qos[field]) is not int or qos[field] not in allowed for field, allowed in _RANGES.items()
    ):
        bounds = ", ".join(f"{field} from {allowed[0]} to {allowed[-1]}" for field, allowed in _RANGES.items())
        raise ValueError(f"header {HEADER!r} of a message for {lane}: expected a model name, {bounds}, got {qos!r}")
    return Envelope(task=task, **qos)


def band_of_priority(priority: int) -> int:
    """The band whose range holds a Celery priority (0 is served first); beyond the last range: the last band."""
    for band, tier in enumerate(TIERS):
        if priority <= PRIORITY_RANGES[tier].last:
            return band
    return len(TIERS) - 1

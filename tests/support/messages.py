"""What do tests submit when most of it does not matter? Sensible fields, changed where the test says so."""

from __future__ import annotations

from typing import Any

from qosqueue.broker.envelope import qos_header


def submission(tag: str = "t", **changes: Any) -> dict[str, Any]:
    """The arguments of submit: an online message of no tenant that may run at once, in any order, and never expires."""
    return {
        "tag": tag,
        "task": f"task-{tag}",
        "lane": "vip.light",
        "model": "m",
        "tenant": "",
        "organisation": "",
        "priority": 0,
        "batch": False,
        "budget_ms": 0,
        "cost_ms": 0,
        "delay_ms": 0,
        "ttl_ms": 0,
        "max_attempts": 3,
        "payload": f"of {tag}",
    } | changes


def header(**changes: Any) -> dict[str, Any]:
    """The header of a request: vip, a second to start, a minute to live."""
    fields = {
        "model": "m",
        "tenant": "acme",
        "organisation": "acme",
        "priority": 0,
        "batch": False,
        "budget_ms": 1_000,
        "cost_ms": 0,
        "ttl_ms": 60_000,
        "max_attempts": 3,
    }
    return qos_header(**(fields | changes))  # type: ignore[arg-type]

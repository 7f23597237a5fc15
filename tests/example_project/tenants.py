"""Whose report is it? The third line: each tenant's work is sent with its header."""

from typing import Any

from celery.result import AsyncResult

from example_project.tasks import render

# The one place that knows the fields of the header.
HEADERS: dict[str, dict[str, Any]] = {
    "acme": {"qos": {"tenant": "acme", "priority": 0}},
    "zenith": {"qos": {"tenant": "zenith", "priority": 8, "ttl_ms": 3_600_000}},
}


def order_report(tenant: str, report: str, folder: str) -> AsyncResult:
    """Queue a report for a tenant."""
    return render.apply_async((report, folder), headers=HEADERS[tenant])

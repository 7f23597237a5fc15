"""What does the order need to know of a Celery message, and what if the message does not say?

A request of qosqueue says everything in its header `qos`. A host project's task says as much as it likes: with a tenant
it gets that tenant's place in the order and the start budget of its priority; without one it waits its turn by
priority and age. No task but a request expires in the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from qosqueue.policy.order import LARGEST_COST_MS, LONGEST_MS
from qosqueue.policy.terms import PRIORITY_RANGES, Tier

HEADER = "qos"
LONGEST_NAME = 128
_RANGES = {
    "priority": range(10),
    "budget_ms": range(LONGEST_MS),
    "cost_ms": range(LARGEST_COST_MS + 1),
    "ttl_ms": range(LONGEST_MS),
    "max_attempts": range(1, 1001),
}
_NAMES = ("model", "tenant", "organisation")
# Start budgets of a tenant's plain tasks, by the tier that their priority belongs to.
PLAIN_BUDGETS_MS = {Tier.VIP: 1_000, Tier.STANDARD: 3_000, Tier.BASIC: 10_000}
# Whoever names a tenant and nothing else is no vip: Kombu writes priority 0 where a sender says none.
PLAIN_PRIORITY = 5
# For so long batch work that names no budget is batch: it fills idle slots, then it joins the order of all.
BATCH_WINDOW_MS = 600_000


@dataclass(frozen=True)
class Envelope:
    """The arguments of the submit script that a message decides. Times in ms from now; `cost_ms` 0: unknown."""

    task: str
    model: str
    tenant: str
    organisation: str
    priority: int
    batch: bool
    budget_ms: int
    cost_ms: int
    delay_ms: int
    ttl_ms: int
    max_attempts: int


def qos_header(
    *,
    model: str,
    tenant: str,
    organisation: str,
    priority: int,
    batch: bool,
    budget_ms: int,
    cost_ms: int,
    ttl_ms: int,
    max_attempts: int,
) -> dict[str, Any]:
    """The `headers=` argument of apply_async for a request."""
    return {
        HEADER: {
            "model": model,
            "tenant": tenant,
            "organisation": organisation,
            "priority": priority,
            "batch": batch,
            "budget_ms": budget_ms,
            "cost_ms": cost_ms,
            "ttl_ms": ttl_ms,
            "max_attempts": max_attempts,
        }
    }


def envelope_of(
    lane: str,
    message: dict[str, Any],
    max_attempts: int,
    batch_window_ms: int = BATCH_WINDOW_MS,
    tenant: str = "",
) -> Envelope:
    """The envelope of a Kombu message; raises ValueError, naming the field, if its header is malformed.

    Of a message that does not say them: its attempts, the budget of batch work, and its tenant.
    """
    headers, properties = message.get("headers") or {}, message["properties"]
    qos = headers.get(HEADER)
    _check(lane, {} if qos is None else qos)
    given: dict[str, Any] = qos or {}
    tenant = given.get("tenant", tenant)
    celery_priority = min(max(int(properties.get("priority") or 0), 0), 9)
    priority = given.get("priority", celery_priority or (PLAIN_PRIORITY if tenant else 0))
    batch = given.get("batch", False)
    budget_ms = batch_window_ms if batch else plain_budget_ms(priority) if tenant else 0
    return Envelope(
        task=headers.get("id") or properties["delivery_tag"],
        model=given.get("model", ""),
        tenant=tenant,
        organisation=given.get("organisation", tenant),
        priority=priority,
        batch=batch,
        budget_ms=given.get("budget_ms", budget_ms),
        cost_ms=given.get("cost_ms", 0),
        delay_ms=_delay_ms(headers.get("eta")),
        ttl_ms=given.get("ttl_ms", 0),
        max_attempts=given.get("max_attempts", max_attempts),
    )


def plain_budget_ms(priority: int) -> int:
    """Start budget of a tenant's task that names none."""
    return next(budget for tier, budget in PLAIN_BUDGETS_MS.items() if priority <= PRIORITY_RANGES[tier].last)


def instant_of(eta: str) -> datetime:
    """The instant that a message's ETA names; without a zone it is UTC, as Celery's are."""
    at = datetime.fromisoformat(eta)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _delay_ms(eta: str | None) -> int:
    """Celery's ETA is an instant of the sender's clock: what is left until then, by this host's."""
    if not eta:
        return 0
    left = instant_of(eta) - datetime.now(UTC)
    return min(max(0, round(left.total_seconds() * 1000)), LONGEST_MS - 1)


def _check(lane: str, qos: Any) -> None:
    where = f"header {HEADER!r} of a message for {lane}"
    known = (*_NAMES, *_RANGES, "batch")
    if not isinstance(qos, dict):
        raise ValueError(f"{where}: expected fields of {known}, got {qos!r}")
    if unknown := set(qos) - set(known):
        raise ValueError(f"{where}: expected fields of {known}, got {sorted(unknown)}")
    for field, value in qos.items():
        if field in _NAMES and not (isinstance(value, str) and len(value) <= LONGEST_NAME):
            raise ValueError(f"{where}: {field}: expected a name of at most {LONGEST_NAME} characters, got {value!r}")
        if field == "batch" and not isinstance(value, bool):
            raise ValueError(f"{where}: batch: expected true or false, got {value!r}")
        allowed = _RANGES.get(field)
        if allowed is not None and (type(value) is not int or value not in allowed):
            bounds = f"from {allowed[0]} to {allowed[-1]}"
            raise ValueError(f"{where}: {field}: expected a whole number {bounds}, got {value!r}")

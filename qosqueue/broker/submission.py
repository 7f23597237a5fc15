"""How does a Celery message enter the order? The submit script is told what the message says of itself."""

from __future__ import annotations

from typing import Any

from qosqueue.broker.envelope import envelope_of
from qosqueue.broker.scripts import Scripts


def submit_message(
    scripts: Scripts, lane: str, message: dict[str, Any], *, payload: str | bytes, max_attempts: int
) -> None:
    """Queue one message as Kombu makes it, and as JSON; `max_attempts` is for one that does not say it.

    Raises ValueError if its header is malformed, redis.RedisError if the broker is away or full.
    """
    envelope = envelope_of(lane, message, max_attempts)
    scripts.submit(
        tag=message["properties"]["delivery_tag"],
        task=envelope.task,
        lane=lane,
        model=envelope.model,
        band=envelope.band,
        budget_ms=envelope.budget_ms,
        ttl_ms=envelope.ttl_ms,
        max_attempts=envelope.max_attempts,
        payload=payload,
    )

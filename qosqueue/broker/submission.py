"""How does a Celery message enter the order? The submit script is told what the message says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qosqueue.broker.envelope import BATCH_WINDOW_MS, envelope_of
from qosqueue.broker.scripts import Scripts


def submit_message(
    scripts: Scripts,
    lane: str,
    message: dict[str, Any],
    *,
    dump: Callable[[dict[str, Any]], str | bytes],
    max_attempts: int,
    batch_window_ms: int = BATCH_WINDOW_MS,
    tenant: str = "",
) -> None:
    """Queue one message as Kombu makes it; `dump` makes JSON of it, the rest is for one that does not say it.

    Raises ValueError if its header is malformed, redis.RedisError if the broker is away or full.
    """
    scripts.submit(
        **submitted(lane, message, dump=dump, max_attempts=max_attempts, batch_window_ms=batch_window_ms, tenant=tenant)
    )


def submitted(
    lane: str,
    message: dict[str, Any],
    *,
    dump: Callable[[dict[str, Any]], str | bytes],
    max_attempts: int,
    batch_window_ms: int = BATCH_WINDOW_MS,
    tenant: str = "",
) -> dict[str, Any]:
    """The arguments of submit for a message."""
    envelope = envelope_of(lane, message, max_attempts, batch_window_ms, tenant)
    return {"tag": _tag_in(lane, message["properties"]), "lane": lane, "payload": dump(message), **vars(envelope)}


def _tag_in(queue: str, properties: dict[str, Any]) -> str:
    """The tag of a message in one queue: a topic exchange may have put the same message into others too."""
    tag: str = properties["delivery_tag"]
    return tag if properties["delivery_info"]["routing_key"] == queue else f"{tag}.{queue}"

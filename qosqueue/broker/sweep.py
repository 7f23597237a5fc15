"""How does a consumer sweep the queue of a project without a watchdog, and who hears of what will never run?

Lost leases are queued again or end as dead letters, and what outlasted its time to live is dropped. A Celery task that
ends like that has a result all the same, so that nobody waits for it for ever, and its chord is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import structlog
from kombu.utils.json import loads

from qosqueue.broker.celery_side import CelerySide
from qosqueue.broker.revocation import Decode, Revocation
from qosqueue.broker.scripts import Scripts

AT_ONCE = 100
MOST_SWEEPS = 20

log = structlog.get_logger(__name__)


def sweep(scripts: Scripts, celery: CelerySide | None, decode: Decode) -> None:
    """Sweep until nothing is left to do, or for a while; raises redis.RedisError."""
    for _ in range(MOST_SWEEPS):
        # At one instant, so that nothing is dropped whose message was not read before.
        now_ms = scripts.server_ms()
        messages = _messages_to_end(scripts, now_ms) if celery else {}
        reaped = scripts.reap(limit=AT_ONCE, now_ms=now_ms)
        if reaped.requeued or reaped.dead:
            log.warning("leases were lost", queued_again=list(reaped.requeued), dead_letters=list(reaped.dead))
        if reaped.expired:
            log.warning("tasks expired in the queue", tasks=list(reaped.expired))
        if celery:
            for task in _known(reaped.expired, messages):
                _tell(celery.mark_revoked, Revocation.of(task, messages[task], decode), "expired")
            for task in _known(reaped.withdrawn, messages):
                _tell(celery.mark_revoked, Revocation.of(task, messages[task], decode), "revoked")
            for task in _known(reaped.dead, messages):
                _tell(celery.mark_lost, Revocation.of(task, messages[task], decode), "its workers were lost")
        lost = (*reaped.requeued, *reaped.dead, *reaped.withdrawn)
        if max(len(lost), len(reaped.expired)) < AT_ONCE:
            return


def _messages_to_end(scripts: Scripts, now_ms: int) -> dict[str, dict[str, Any]]:
    """The Celery messages by task that the next sweep will find expired, or under a lease that was lost."""
    client: Any = scripts.client
    tags = [
        tag.decode()
        for index in ("leases", "expiry")
        for tag in client.zrange(f"{scripts.key}:{index}", "-inf", now_ms, byscore=True, offset=0, num=AT_ONCE)
    ]
    if not tags:
        return {}
    bodies = cast("list[bytes | None]", client.mget([f"{scripts.key}:body:{tag}" for tag in tags]))
    messages = [loads(body) for body in bodies if body is not None]
    return {message["headers"]["id"]: message for message in messages if "task" in (message.get("headers") or {})}


def _known(tasks: Iterable[str], messages: dict[str, dict[str, Any]]) -> list[str]:
    return [task for task in tasks if task in messages]


def _tell(mark: Any, revocation: Revocation, why: str) -> None:
    try:
        mark(revocation, why)
    except Exception:
        # A result backend that is away must not keep lost leases from running again.
        log.exception("whoever waits for a task cannot be told of its end", task=revocation.task, why=why)

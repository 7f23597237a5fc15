"""How does a consumer sweep the queue of a project without a watchdog, and who hears of what will never run?

Lost leases are queued again or end as dead letters, what outlasted its time to live is dropped, and what time has
changed takes its new place. A Celery task that ends like that has a result all the same, so that nobody waits for it
for ever, and its chord is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple
from functools import partial
from typing import Any, cast

import structlog
from kombu.utils.json import loads

from qosqueue.broker.celery_side import CelerySide
from qosqueue.broker.revocation import Decode, Revocation
from qosqueue.broker.scripts import Scripts

AT_ONCE = 100
MOST_SWEEPS = 20

Mark = Callable[[Revocation, str], None]

log = structlog.get_logger(__name__)


def sweep(scripts: Scripts, celery: CelerySide | None, decode: Decode) -> None:
    """Sweep until nothing is left to do, or for a while; raises redis.RedisError.

    An end that cannot be told now, e.g. since the result backend is away, is told with a later sweep of this process.
    """
    backend_is_there = True
    for _ in range(MOST_SWEEPS):
        # At one instant, so that nothing is dropped whose message was not read before.
        now_ms = scripts.server_ms()
        messages = _messages_to_end(scripts, now_ms) if celery else {}
        aged = scripts.age(limit=AT_ONCE, now_ms=now_ms)
        reaped = scripts.reap(limit=AT_ONCE, now_ms=now_ms)
        if reaped.requeued or reaped.dead:
            log.warning("leases were lost", queued_again=list(reaped.requeued), dead_letters=list(reaped.dead))
        if reaped.expired:
            log.warning("tasks expired in the queue", tasks=list(reaped.expired))
        if celery:
            ended: list[tuple[Iterable[str], Mark, str]] = [
                (reaped.expired, celery.mark_revoked, "expired"),
                (reaped.withdrawn, celery.mark_revoked, "revoked"),
                (reaped.dead, celery.mark_lost, "its workers were lost"),
            ]
            for tasks, mark, why in ended:
                for task in tasks:
                    if task in messages:
                        celery.untold.add(task, partial(mark, Revocation.of(task, messages[task], decode), why))
            backend_is_there = backend_is_there and celery.untold.tell_all()
        lost = (*reaped.requeued, *reaped.dead, *reaped.withdrawn)
        if max(map(len, (lost, reaped.expired, *astuple(aged)))) < AT_ONCE:
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

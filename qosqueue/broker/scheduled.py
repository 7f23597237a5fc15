"""Which tasks wait in the server for their ETA? `inspect scheduled`, and Flower by it, ask each worker.

A stock worker keeps such tasks in its memory and tells those. Here they wait in the order, so each worker tells those
of the queues that it serves, whoever will run them: the same task appears once for each such worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from celery.exceptions import InvalidTaskError
from celery.worker import control
from celery.worker.request import Request
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.utils.json import loads

from qosqueue.broker.scripts import Scripts

MOST = 1_000
TIMER_PRIORITY = 6
"""What Celery's own timer gives every task with an ETA; clients read the field."""

_in_memory = control.scheduled


def register() -> None:
    """Let this process's worker, if it becomes one, answer `inspect scheduled` with what waits in the server, too."""
    control.inspect_command(alias="dump_schedule")(scheduled)


def scheduled(state: Any, **_: Any) -> list[dict[str, Any]]:
    """List tasks that wait for their ETA or countdown; at most 1,000 of those in the server, the first to come."""
    told: list[dict[str, Any]] = _in_memory(state)
    consumer = state.consumer.task_consumer
    scripts = getattr(getattr(consumer, "channel", None), "scripts", None)
    if not isinstance(scripts, Scripts):
        return told
    for payload in _later(scripts, {queue.name for queue in consumer.queues}):
        message = consumer.channel.Message(payload, channel=consumer.channel, accept=consumer.accept)
        try:
            request = Request(message, app=state.app, hostname=state.hostname)
        except (KeyError, InvalidTaskError, ContentDisallowed, DecodeError):
            continue  # no task of this worker's app, or none that it could read
        eta = request.eta.isoformat() if request.eta else None
        told.append({"eta": eta, "priority": TIMER_PRIORITY, "request": request.info()})
    return told


def _later(scripts: Scripts, lanes: set[str]) -> Iterator[dict[str, Any]]:
    """Payloads of what waits for its ETA in these lanes, the first to come first."""
    tags = [tag.decode() for tag in cast(Any, scripts.client.zrange(f"{scripts.key}:later", 0, MOST - 1))]
    with scripts.client.pipeline(transaction=False) as pipe:
        for tag in tags:
            pipe.hget(f"{scripts.key}:msg:{tag}", "lane")
            pipe.get(f"{scripts.key}:body:{tag}")
        found = pipe.execute()
    for lane, body in zip(found[::2], found[1::2], strict=True):
        # One may have been picked or withdrawn since the first look.
        if lane is not None and body is not None and lane.decode() in lanes:
            yield loads(body.decode())  # type: ignore[no-untyped-call]

"""Which tasks does a broadcast of Celery's remote control revoke?

`app.control.revoke(id)` is heard by the workers, who refuse the task when they meet it; its message stays queued until
then. The transport sees the broadcast when it is published, and can take the message out of the queue at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import loads

# A method of Celery's remote control travels through the fanout exchange of a mailbox, `celery.pidbox` by default.
MAILBOX = ".pidbox"

Decode = Callable[[Any, str | None], Any]


@dataclass(frozen=True)
class Revocation:
    """A task that left the queue before any worker met it: its id, its message's headers and decoded body.

    `body` is None if the message is not JSON.
    """

    task: str
    headers: dict[str, Any]
    body: Any

    @classmethod
    def of(cls, task: str, message: dict[str, Any], decode: Decode) -> Revocation:
        """From a Kombu message as it was queued."""
        return cls(task, message["headers"], _json_body(message, decode))


def revoked_by(exchange: str, message: dict[str, Any], decode: Decode) -> list[str]:
    """The ids of the tasks that a broadcast to all workers revokes; none if it is about anything else."""
    if not exchange.endswith(MAILBOX):
        return []
    call = _json_body(message, decode)
    if not isinstance(call, dict) or call.get("method") != "revoke" or call.get("destination"):
        return []
    tasks = call.get("arguments", {}).get("task_id") or []
    return [tasks] if isinstance(tasks, str) else [task for task in tasks if isinstance(task, str)]


def _json_body(message: dict[str, Any], decode: Decode) -> Any:
    if message.get("content-type") != "application/json":
        return None
    body = decode(message["body"], message["properties"].get("body_encoding"))
    return loads(body)

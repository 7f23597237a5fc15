"""What does a request look like on the wire? Exactly like the message that Celery's `send_task` would send.

Made from a template, for Celery's own way through `send_task` and Kombu's producer takes longer than all else that is
done for a request (docs/adr/0008). tests/contract/test_task_message.py compares the two.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from celery import Celery
from pydantic_core import from_json, to_json

from qosqueue.broker.celery_app import INFER_TASK

PERSISTENT = 2
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class TaskMessages:
    """Makes messages of the task that runs requests; what all of them share is asked of Celery once."""

    def __init__(self, app: Celery) -> None:
        made = app.amqp.as_task_v2("", INFER_TASK, args=[], kwargs={}, kwargsrepr="{}", ignore_result=None)
        self._headers: dict[str, Any] = made.headers
        self._reply_to = app.oid

    def make(
        self, request_id: str, lane: str, priority: int, request: Mapping[str, Any], headers: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A message for `lane` whose only argument is `request`; `headers` are added to Celery's."""
        # Celery would write the prompt a second time here, for its logs.
        shown = f"({request_id!r},)"
        return {
            "body": to_json([[request], {}, _EMBED]).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**self._headers, "id": request_id, "root_id": request_id, "argsrepr": shown, **headers},
            "properties": {
                "correlation_id": request_id,
                "reply_to": self._reply_to,
                "argsrepr": shown,
                "kwargsrepr": "{}",
                "delivery_mode": PERSISTENT,
                "delivery_info": {"exchange": "", "routing_key": lane},
                "priority": priority,
                "body_encoding": None,
                "delivery_tag": secrets.token_hex(16),
            },
        }


def request_of(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request that a message holds, if it is one that asks nothing more of Celery; else None.

    Raises ValueError for a body that is no JSON.
    """
    headers, properties = message["headers"], message["properties"]
    if (
        headers.get("task") != INFER_TASK
        or message["content-type"] != "application/json"
        or properties.get("body_encoding") is not None
        or headers.get("eta") is not None
        or headers.get("expires") is not None
    ):
        return None
    args, kwargs, embed = from_json(message["body"])
    return args[0] if len(args) == 1 and not kwargs and not any(embed.values()) else None

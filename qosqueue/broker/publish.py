"""How does an admitted request get into the order?"""

from __future__ import annotations

from typing import Any

import kombu.exceptions
import redis
from celery import Celery

from qosqueue.broker.celery_app import INFER_TASK, queue_for
from qosqueue.broker.envelope import qos_header
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.profile import Profile
from qosqueue.policy.terms import TaskType
from qosqueue.settings import Settings


class Publisher:
    """Sends requests as ordinary Celery messages, to the lane that the profile names."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    def publish(
        self, request_id: str, model: str, tenant: str, organisation: str, profile: Profile, request: dict[str, Any]
    ) -> None:
        """Queue one request of a tenant (its id), which counts as one with all of its organisation; `request` is the
        only argument of the task, as JSON.

        Raises BrokerUnavailable if the broker is away or full. The message may be queued all the same when only
        the answer was lost: the caller's record must then be final before a worker looks at it.
        """
        try:
            self._app.send_task(
                INFER_TASK,
                args=[request],
                # Else Celery writes the prompt a second time into the message, for its logs.
                argsrepr=f"({request_id!r},)",
                kwargsrepr="{}",
                task_id=request_id,
                queue=queue_for(self._settings, profile.routing_key),
                # Stock Kombu would sort by it: the baseline is first come, first served.
                priority=None if self._settings.order == "fifo" else profile.priority,
                headers=qos_header(
                    model=model,
                    tenant=tenant,
                    organisation=organisation,
                    priority=profile.priority,
                    batch=profile.task_type is TaskType.BATCH,
                    budget_ms=profile.latency_budget_ms,
                    cost_ms=profile.cost_ms,
                    ttl_ms=profile.ttl_ms,
                    max_attempts=profile.max_attempts,
                ),
            )
        except (kombu.exceptions.OperationalError, redis.RedisError) as error:
            raise BrokerUnavailable(f"the broker did not take the request: {error}") from error

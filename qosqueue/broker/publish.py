"""How does an admitted request get into the order?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import kombu.exceptions
import redis
from celery import Celery
from pydantic_core import to_json

from qosqueue.broker.celery_app import FIFO_QUEUE, INFER_TASK
from qosqueue.broker.envelope import HEADER, qos_header
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.task_message import TaskMessages
from qosqueue.broker.wire import Exchange
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.profile import Profile
from qosqueue.policy.quota import Quota, Verdict
from qosqueue.policy.terms import TaskType
from qosqueue.settings import Settings


class Publisher:
    """Sends requests as ordinary Celery messages, to the lane that the profile names."""

    def __init__(self, app: Celery, settings: Settings, scripts: Scripts) -> None:
        self._app = app
        self._settings = settings
        self._scripts = scripts

    def publish(
        self,
        request_id: str,
        model: str,
        tenant: str,
        organisation: str,
        profile: Profile,
        request: dict[str, Any],
        *,
        fence: int | None = None,
    ) -> bool:
        """Queue one request of a tenant (its id), which counts as one with all of its organisation; `request` is the
        only argument of the task, as JSON.

        With a `fence` it is the only message of its request, and its attempts go on from there: False if the queue
        knows the request already.

        Raises BrokerUnavailable if the broker is away or full. The message may be queued all the same when only
        the answer was lost: the caller's record must then be final before a worker looks at it.
        """
        header = _header(model, tenant, organisation, profile)
        with _reached():
            if self._settings.order == "fifo":
                self._send_stock(request_id, header, request)
                return True
            told = self._submitted(request_id, profile, header, request)
            return bool(self._scripts.submit(**told, fence=fence))

    def offer(
        self,
        request_id: str,
        model: str,
        tenant: str,
        organisation: str,
        profile: Profile,
        request: dict[str, Any],
        quotas: Sequence[Quota],
        exchange: Exchange | None = None,
        *,
        fence: int | None = None,
    ) -> Verdict | None:
        """Ask for quotas and queue the request if it is let in, at once; raises as `publish` does.

        `exchange` and `fence` are those of Scripts.offer; None: the queue knows the request already.
        """
        header = _header(model, tenant, organisation, profile)
        with _reached():
            if self._settings.order == "fifo":
                verdict = self._scripts.admit(request=request_id, quotas=quotas)
                if verdict.admitted:
                    self._send_stock(request_id, header, request)
                return verdict
            told = self._submitted(request_id, profile, header, request)
            return self._scripts.offer(request_id, quotas, fence=fence, exchange=exchange, **told)

    def _submitted(
        self, request_id: str, profile: Profile, header: dict[str, Any], request: dict[str, Any]
    ) -> dict[str, Any]:
        lane = profile.routing_key
        message = self._messages.make(request_id, lane, profile.priority, request, header)
        # What envelope_of would read of the message again (tests/contract/test_task_message.py compares the two).
        known = {"tag": message["properties"]["delivery_tag"], "task": request_id, "lane": lane, "delay_ms": 0}
        return {**known, **header[HEADER], "payload": to_json(message)}

    @cached_property
    def _messages(self) -> TaskMessages:
        # Not before the first request: what Celery puts into every message names the process.
        return TaskMessages(self._app)

    def _send_stock(self, request_id: str, header: dict[str, Any], request: dict[str, Any]) -> None:
        """Celery's own way, for the baseline on stock Kombu: first come, first served, so without a priority."""
        self._app.send_task(
            INFER_TASK,
            args=[request],
            # Else Celery writes the prompt a second time into the message, for its logs.
            argsrepr=f"({request_id!r},)",
            kwargsrepr="{}",
            task_id=request_id,
            queue=FIFO_QUEUE,
            headers=header,
        )


def _header(model: str, tenant: str, organisation: str, profile: Profile) -> dict[str, Any]:
    return qos_header(
        model=model,
        tenant=tenant,
        organisation=organisation,
        priority=profile.priority,
        batch=profile.task_type is TaskType.BATCH,
        cost_ms=profile.cost_ms,
        budget_ms=profile.latency_budget_ms,
        ttl_ms=profile.ttl_ms,
        max_attempts=profile.max_attempts,
    )


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (kombu.exceptions.OperationalError, redis.RedisError) as error:
        raise BrokerUnavailable(f"the broker did not take the request: {error}") from error

"""Is the process alive, and can the service do its work?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from redis.exceptions import RedisError

from qosqueue.broker.replicas import ReplicaState
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue_web.api.answers import Health

if TYPE_CHECKING:
    from qosqueue.wiring import Services


def add_health(api: APIBlueprint, services: Services) -> None:
    """Add /healthz and /readyz."""

    @api.get("/healthz", operation_id="alive", responses={200: Health})
    def alive() -> Response:
        """Whether this process answers; it asks nobody else."""
        return jsonify(Health(status="ok").model_dump())

    @api.get("/readyz", operation_id="ready", responses={200: Health, 503: Health})
    def ready() -> Response:
        """Whether broker, database and a replica of the default model are there."""
        reasons = [reason for reason in (_store_fault(services), _broker_fault(services)) if reason]
        response = jsonify(Health(status="unavailable" if reasons else "ok", reasons=reasons).model_dump())
        response.status_code = 503 if reasons else 200
        return response


def _store_fault(services: Services) -> str | None:
    try:
        services.store.ping()
    except StoreUnavailable as fault:
        return f"database: {fault}"
    return None


def _broker_fault(services: Services) -> str | None:
    """Why requests would not run, as far as the broker knows: it is away, or no replica is ready."""
    model = services.settings.default_model
    try:
        services.redis.ping()
        served = any(
            live.replica.model == model and live.replica.state is ReplicaState.READY
            for live in services.queues.replicas()
        )
    except (RedisError, BrokerUnavailable) as fault:
        return f"broker: {fault}"
    return None if served else f"model: no replica of {model} is ready"

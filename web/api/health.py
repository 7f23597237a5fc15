"""Is the process alive, and can the service do its work?"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from flask import Response, current_app, jsonify
from flask_openapi.blueprint import APIBlueprint
from redis.exceptions import RedisError

from qosqueue.broker.replicas import ReplicaState
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue_web.api.answers import Health

if TYPE_CHECKING:
    from qosqueue.wiring import Services


# What anybody may read: the reasons themselves hold addresses and paths, and go to the log.
STORE_DOWN, BROKER_DOWN = "database unavailable", "broker unavailable"


def add_health(api: APIBlueprint, services: Services) -> None:
    """Add /healthz and /readyz."""
    told = _Told()

    @api.get("/healthz", operation_id="alive", responses={200: Health})
    def alive() -> Response:
        """Whether this process answers; it asks nobody else."""
        return jsonify(Health(status="ok").model_dump())

    @api.get("/readyz", operation_id="ready", responses={200: Health, 503: Health})
    def ready() -> Response:
        """Whether broker, database and a replica of the default model are there."""
        faults = [fault for fault in (_store_fault(services), _broker_fault(services)) if fault]
        if told.is_new(faults):
            current_app.logger.warning("not ready: %s", "; ".join(detail for _, detail in faults))
        reasons = [reason for reason, _ in faults]
        response = jsonify(Health(status="unavailable" if reasons else "ok", reasons=reasons).model_dump())
        response.status_code = 503 if reasons else 200
        return response


class _Told:
    """The faults that the log has already: who asks does so every second, and the log is for changes."""

    def __init__(self) -> None:
        self._faults: list[tuple[str, str]] = []
        self._lock = Lock()

    def is_new(self, faults: list[tuple[str, str]]) -> bool:
        """Whether there are faults, and others than the last time."""
        with self._lock:
            changed, self._faults = faults != self._faults, faults
        return changed and bool(faults)


def _store_fault(services: Services) -> tuple[str, str] | None:
    """The public reason and the detail, or None."""
    try:
        services.store.ping()
    except StoreUnavailable as fault:
        return STORE_DOWN, f"database: {fault}"
    return None


def _broker_fault(services: Services) -> tuple[str, str] | None:
    """Why requests would not run, as far as the broker knows: it is away, or no replica is ready."""
    model = services.settings.default_model
    try:
        services.redis.ping()
        served = any(
            live.replica.model == model and live.replica.state is ReplicaState.READY
            for live in services.queues.replicas()
        )
    except (RedisError, BrokerUnavailable) as fault:
        return BROKER_DOWN, f"broker: {fault}"
    missing = f"no replica of {model} is ready"
    return None if served else (missing, missing)

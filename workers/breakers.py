"""When does this worker leave a model's work to others? While the breaker of its replica says so, and after a failure.

Every attempt that an engine has served or failed is told to two breakers, the model's and the replica's
(policy/breaker.py). What the model's lets run holds for all workers, by a limit in the order; what the replica's lets
run is this worker's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable

import redis
import structlog

from qosqueue.broker.leases import LeaseTable
from qosqueue.broker.replicas import Replicas, ReplicaState
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.breaker import SOUND, Breaker, State, model_breaker, most_running, replica_breaker

STAND_BACK_S = 0.5

log = structlog.get_logger(__name__)


class ReplicaBreakers:
    """The breakers of one worker's replicas, and of their models."""

    def __init__(
        self, scripts: Scripts, replicas: Replicas, table: LeaseTable, worker: str, models: Iterable[str]
    ) -> None:
        self._scripts = scripts
        self._replicas = replicas
        self._table = table
        self._worker = worker
        self._names = {model: replica_breaker(worker, model) for model in models}
        self._states = dict.fromkeys(self._names, State.CLOSED)

    def names(self, model: str) -> list[str]:
        """The breakers of an attempt, for what settles it to tell."""
        return [model_breaker(model), self._names[model]]

    def failed(self, model: str) -> None:
        """Tell them that an engine has failed one."""
        try:
            _, state = self._scripts.observe(names=self.names(model), served=False)
        except redis.RedisError as error:
            log.warning("a failure is not told to the breakers", model=model, error=str(error))
            return
        self._heed(model, Breaker(state))

    def look(self) -> None:
        """Heed what time, other outcomes or an operator have made of this worker's breakers."""
        try:
            found = self._scripts.probe()
        except redis.RedisError as error:
            log.warning("breakers cannot be looked at now", error=str(error))
            return
        for model, name in self._names.items():
            self._heed(model, found.get(name, SOUND))

    def stand_back(self, model: str) -> None:
        """Let others have a request first that failed here, if there are others."""
        try:
            others = any(
                live.replica.model == model
                and live.replica.worker != self._worker
                and live.replica.state is ReplicaState.READY
                for live in self._replicas.list()
            )
        except BrokerUnavailable as error:
            log.warning("whether there are other replicas is not known", model=model, error=str(error))
            return
        if others:
            self._table.stand_back(model, STAND_BACK_S)

    def _heed(self, model: str, breaker: Breaker) -> None:
        if breaker.state is self._states[model]:
            return
        log.warning("the breaker of a replica has changed", model=model, state=breaker.state)
        self._states[model] = breaker.state
        self._table.let_run(model, most_running(breaker))

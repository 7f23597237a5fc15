"""How do others know what this worker serves? Its replicas are registered, and a heartbeat keeps them so."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

import structlog

from qosqueue.broker.replicas import Replica, Replicas, ReplicaState
from qosqueue.errors import BrokerUnavailable
from qosqueue_workers.engines.base import Engine

BEAT_S = 2.0

log = structlog.get_logger(__name__)


class Presence:
    """Registers one replica for each engine and beats for all of them, from a thread of its own; `on_beat` is called
    with each beat."""

    def __init__(
        self,
        replicas: Replicas,
        worker: str,
        engines: Mapping[str, Engine],
        slots: Mapping[str, int],
        gpu: str | None,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._replicas = replicas
        self._worker = worker
        self._engines = engines
        self._slots = slots
        self._gpu = gpu
        self._on_beat = on_beat
        self._state = ReplicaState.READY
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Register and begin to beat; raises BrokerUnavailable."""
        for model in self._engines:
            self._replicas.register(self._replica(model))
        self._thread.start()

    def drain(self) -> None:
        """Say that this worker takes no more."""
        self._state = ReplicaState.DRAINING
        self._beat()

    def close(self) -> None:
        """Stop beating and take the replicas out."""
        self._closed.set()
        self._thread.join(2 * BEAT_S)
        try:
            for model in self._engines:
                self._replicas.withdraw(self._worker, model)
        except BrokerUnavailable as error:
            log.warning("replicas are left to expire", error=str(error))

    def _run(self) -> None:
        while not self._closed.wait(BEAT_S):
            self._beat()
            try:
                self._on_beat()
            except Exception:
                # A replica that is not heard of any more is taken for lost.
                log.exception("a look around failed")

    def _beat(self) -> None:
        try:
            for model in self._engines:
                self._replicas.heartbeat(self._replica(model))
        except BrokerUnavailable as error:
            log.warning("no heartbeat now", error=str(error))

    def _replica(self, model: str) -> Replica:
        engine = self._engines[model]
        return Replica(
            worker=self._worker,
            model=model,
            slots=self._slots[model],
            busy=engine.busy(),
            gpu=self._gpu,
            state=self._state,
            pid=os.getpid(),
        )

"""Which breakers are not closed, and how does an operator open or reset one?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import redis

from qosqueue.broker.replicas import Replicas
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, InvalidField, NotFound
from qosqueue.policy.breaker import SOUND, Breaker, model_breaker, replica_breaker
from qosqueue.policy.order import LONGEST_MS
from qosqueue.service import audit
from qosqueue.service.catalog import Catalog
from qosqueue.service.fields import checked_whole
from qosqueue.store.session import Store

LONGEST_S = 30 * 86_400
NAMES = "m:MODEL or r:LENGTH OF WORKER:WORKER:MODEL"
# A length of four digits is no name's; one of thousands could not even be read.
OF_REPLICA = re.compile(r"r:([0-9]{1,3}):(.*)", re.DOTALL)


@dataclass(frozen=True)
class BreakerView:
    """One breaker: its name, what it watches (a model, or a worker's replica of it), its state, the score of faults,
    and until when it is open or waits for probes (ms since the epoch; None: it is closed, or open until it is reset).
    """

    name: str
    model: str
    worker: str | None
    state: str
    score: int
    until_ms: int | None


class Breakers:
    """Lists, trips and resets breakers; every change leaves an audit entry, or is not made.

    All methods raise BrokerUnavailable and StoreUnavailable.
    """

    def __init__(self, scripts: Scripts, store: Store, catalog: Catalog, replicas: Replicas) -> None:
        self._scripts = scripts
        self._store = store
        self._catalog = catalog
        self._replicas = replicas

    def list(self) -> list[BreakerView]:
        """Those of all models, and of the replicas that are not closed and sound, by name."""
        try:
            found = self._scripts.probe()
        except redis.RedisError as error:
            raise BrokerUnavailable(f"breakers cannot be read: {error}") from error
        models = {model_breaker(model.name): SOUND for model in self._catalog.list_models()}
        return [_view(name, breaker) for name, breaker in sorted((models | found).items())]

    def trip(self, name: str, *, actor: str, for_s: int | None = None) -> BreakerView:
        """Let nothing run, or be admitted, for so many seconds or until it is reset. Raises InvalidField, NotFound."""
        if for_s is not None:
            checked_whole("for_s", for_s, 1, LONGEST_S)
        return self._change("breaker.trip", name, actor, 0 if for_s is None else for_s * 1_000)

    def reset(self, name: str, *, actor: str) -> BreakerView:
        """Close it, with no faults counted. Raises InvalidField, NotFound."""
        return self._change("breaker.reset", name, actor, None)

    def _change(self, action: str, name: str, actor: str, for_ms: int | None) -> BreakerView:
        before = {view.name: view for view in self.list()}
        if name not in before:
            self._find(name)
        with self._store.session() as session:
            view = before.get(name)
            told = {"state": view.state if view else "closed"}
            after = {"state": "closed"} if for_ms is None else {"state": "open", "for_s": for_ms // 1_000 or None}
            audit.append(session, actor=actor, action=action, subject=name[:120], before=told, after=after)
            # Before the order hears of it: what cannot be written down is not done.
            session.flush()
            try:
                self._scripts.trip(name=name, for_ms=for_ms)
            except redis.RedisError as error:
                raise BrokerUnavailable(f"the broker did not take it: {error}") from error
        return next((view for view in self.list() if view.name == name), _view(name, SOUND))

    def _find(self, name: str) -> None:
        """Look for a breaker that nothing has moved yet: that of a live replica."""
        if name.startswith("m:"):
            raise NotFound(f"no model {name[2:]!r}")
        parts = _parts(name)
        if parts is None:
            raise InvalidField("name", NAMES, name)
        replicas = [live.replica for live in self._replicas.list()]
        if name not in {replica_breaker(replica.worker, replica.model) for replica in replicas}:
            raise NotFound(f"worker {parts[0]!r} serves no model {parts[1]!r} now")


def _parts(name: str) -> tuple[str, str] | None:
    """Worker and model of a name `r:…`; None if it is none."""
    found = OF_REPLICA.fullmatch(name)
    if found is None:
        return None
    size, raw = int(found[1]), found[2].encode()
    if raw[size : size + 1] != b":":
        return None
    return raw[:size].decode(errors="replace"), raw[size + 1 :].decode(errors="replace")


def _view(name: str, breaker: Breaker) -> BreakerView:
    worker, model = (_parts(name) or (None, name)) if name.startswith("r:") else (None, name[2:])
    lasts = breaker.until > 0 and breaker.pause_ms < LONGEST_MS
    return BreakerView(name, model, worker, breaker.state, breaker.score, breaker.until if lasts else None)

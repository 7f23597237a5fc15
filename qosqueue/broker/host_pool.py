"""What does the order know of a pool that no watchdog looks after? What its own consumers tell.

A Celery project that adopted the order has neither replicas nor a record: each consumer says how much it takes at once,
and one of them, the first in each period, tells the order the pool's terms and what the project promised its tenants.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from qosqueue.broker.envelope import LONGEST_NAME, PLAIN_BUDGETS_MS
from qosqueue.broker.replicas import Replica, Replicas, ReplicaState
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.order import DEFAULT_COST_MS, MOST_SLOTS, contract_q10, pool_terms, steepness_q10
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import tenant_limit

# Batch need not leave a slot free here: the count of slots may be behind, and nobody must wait beside a free one.
NO_SPARE = -MOST_SLOTS
USUAL_WEIGHT = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Promises:
    """What a project promises without a record: percent of each pool, and weights (100 is usual), by organisation;
    the most that may run at once, by tenant. None: not said here, what Redis has stays; else Redis has just that."""

    shares: Mapping[str, int] | None = None
    weights: Mapping[str, int] | None = None
    caps: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        for name, allowed in {"shares": range(101), "weights": range(1, 10_001), "caps": range(1 << 20)}.items():
            for whose, value in (getattr(self, name) or {}).items():
                if type(value) is not int or value not in allowed:
                    expected = f"a whole number from {allowed[0]} to {allowed[-1]}"
                    raise ValueError(f"{name}: {whose}: expected {expected}, got {value!r}")
        if (total := sum((self.shares or {}).values())) > 100:
            raise ValueError(f"shares: expected at most 100 percent together, got {total}")

    def keep(self, scripts: Scripts) -> None:
        """Tell the order what it does not know yet."""
        if self.shares is not None or self.weights is not None:
            _bring_in_step(self._shares(), scripts.shares(), scripts.share)
        if self.caps is not None:
            wanted = {tenant_limit(tenant): most for tenant, most in self.caps.items()}
            # A limit that has an end is somebody's order of the day.
            known = {
                name: limit.most
                for name, limit in scripts.limits().items()
                if name.startswith(tenant_limit("")) and not limit.until
            }
            _bring_in_step(wanted, known, lambda name, most: scripts.limit(name=name, most=most))

    def _shares(self) -> dict[str, Share]:
        shares, weights = self.shares or {}, self.weights or {}
        return {
            whose: Share(
                contract_q10=contract_q10(shares.get(whose, 0)),
                steepness_q10=steepness_q10(USUAL_WEIGHT, weights.get(whose, USUAL_WEIGHT)),
            )
            for whose in {*shares, *weights}
        }


def check_models(models: Mapping[str, int], *, acks_late: bool) -> None:
    """Raises ValueError if a worker cannot keep to these slots by model."""
    for model, slots in models.items():
        if not (isinstance(model, str) and 0 < len(model) <= LONGEST_NAME):
            raise ValueError(f"models: expected names of 1 to {LONGEST_NAME} characters, got {model!r}")
        if type(slots) is not int or slots not in range(1, MOST_SLOTS + 1):
            raise ValueError(f"models: {model}: expected a whole number from 1 to {MOST_SLOTS}, got {slots!r}")
    if models and not acks_late:
        # A slot is free when the message is acknowledged: before the work it would say nothing.
        raise ValueError("models: expected task_acks_late = True, got False")


class HostPool:
    """Tells of the pool that the live consumers make up; raises BrokerUnavailable, redis.RedisError."""

    def __init__(self, scripts: Scripts, key_prefix: str, period_ms: int, promises: Promises) -> None:
        self._scripts = scripts
        self._period_ms = period_ms
        self._promises = promises
        # Told three times in a lease's length: a worker is forgotten when two leases have passed without a word.
        self._replicas = Replicas(scripts.client, scripts.group, ttl_ms=6 * period_ms, key_prefix=key_prefix)

    def tell(self, slots: Mapping[str, int], *, measured: bool) -> None:
        """This process takes so many of each model at once.

        Not `measured`: messages are acknowledged before their work, so the times that the order has seen mean nothing.
        """
        for model, count in slots.items():
            self._replicas.heartbeat(
                Replica(_process(), model, count, busy=0, gpu=None, state=ReplicaState.READY, pid=os.getpid())
            )
        if not self._scripts.client.set(f"{self._scripts.key}:told", _process(), nx=True, px=self._period_ms // 2):
            return
        self._promises.keep(self._scripts)
        totals: Counter[str] = Counter()
        for live in self._replicas.list():
            totals[live.replica.model] += live.replica.slots
        for model, count in totals.items():
            mean_ms = self._scripts.mean_service_ms(model) if measured else 0
            terms = pool_terms(count, mean_ms or DEFAULT_COST_MS, PLAIN_BUDGETS_MS)
            self._scripts.pool(model, replace(terms, spare=NO_SPARE))


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _bring_in_step(wanted: Mapping[str, T], known: Mapping[str, T], tell: Callable[[str, T | None], None]) -> None:
    for name in wanted.keys() | known.keys():
        if wanted.get(name) != known.get(name):
            tell(name, wanted.get(name))

"""What does the order know of each model's pool, and who tells it?

The watchdog does, with every sweep: slots from the replicas that take work, the mean service from what the order has
seen. When no replica is heard of, the last known terms stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from qosqueue.broker.replicas import Replicas, ReplicaState
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.order import DEFAULT_COST_MS, PoolTerms, pool_terms
from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.terms import TaskType, Tier


class Pools:
    """Keeps the terms of the pools; raises BrokerUnavailable. `budgets_ms` are the tiers' online start budgets."""

    def __init__(
        self,
        scripts: Scripts,
        replicas: Replicas,
        budgets_ms: Mapping[Tier, int] = DEFAULT_BUDGET_MS[TaskType.ONLINE],
    ) -> None:
        self._budgets_ms = budgets_ms
        self._scripts = scripts
        self._replicas = replicas
        self._told: dict[str, PoolTerms] = {}

    def refresh(self) -> dict[str, dict[str, int]]:
        """Tell the order the terms of each model that has replicas; those whose number of slots changed."""
        slots: dict[ReplicaState, Counter[str]] = {state: Counter() for state in ReplicaState}
        for live in self._replicas.list():
            slots[live.replica.state][live.replica.model] += live.replica.slots
        changed = {}
        # Slots that load serve nobody yet; before the first is ready they are the best that is known.
        for model, count in {**slots[ReplicaState.LOADING], **slots[ReplicaState.READY]}.items():
            mean_ms = self._scripts.mean_service_ms(model) or DEFAULT_COST_MS
            terms = pool_terms(count, mean_ms, self._budgets_ms)
            self._scripts.pool(model, terms)
            before = self._told.get(model)
            if before is None or before.slots != terms.slots:
                changed[model] = asdict(terms)
            self._told[model] = terms
        return changed

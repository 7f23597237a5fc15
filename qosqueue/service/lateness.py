"""Would this request start in its budget, with what the order knows now?"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import redis

from qosqueue.broker.scripts import Scripts, milliseconds, row_name
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy import order
from qosqueue.policy.order import PoolTerms
from qosqueue.policy.profile import DEFAULT_BUDGET_MS, Profile
from qosqueue.policy.reference.message import Stand
from qosqueue.policy.risk import Line, Weights, ahead_ms, fresh_key_ms, risk, signs
from qosqueue.policy.terms import PRIORITY_RANGES, TIERS, TaskType, lane_name

LATE_AT = 0.9
"""From this probability on a request is taken to be late."""
TERMS = tuple(field.name for field in fields(PoolTerms))


@dataclass(frozen=True)
class Outlook:
    """The probability of missing the start budget, and the predicted work ahead in ms of the whole pool."""

    risk: float
    wait_ms: int

    @property
    def is_late(self) -> bool:
        """Whether it is as good as certain that the request starts too late."""
        return self.risk >= LATE_AT


class Lateness:
    """Reads the order; changes nothing. Raises BrokerUnavailable."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    def outlook(self, model: str, profile: Profile) -> Outlook:
        """What a request of that profile has to expect, came it now. A pool of which nothing is known promises all."""
        budgets_ms = DEFAULT_BUDGET_MS[TaskType.ONLINE]
        places = {tier: (lane_name(tier, profile.weight_class), model) for tier in TIERS}
        rows = {tier: row_name(Stand.LIVE, place) for tier, place in places.items()}
        key = self._scripts.key
        try:
            with self._scripts.client.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hmget(f"{key}:pool:{model}", TERMS)
                pipe.hmget(f"{key}:depth", list(rows.values()))
                for row in rows.values():
                    pipe.zrange(f"{key}:heads:{row}", 0, 0, withscores=True)
                time, figures, depths, *heads = pipe.execute()
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the order cannot be read: {error}") from error
        now_ms = milliseconds(time)
        terms = PoolTerms(*(int(figure or 0) for figure in figures))
        if terms.slots == 0 or not any(depths):
            return Outlook(0.0, 0)
        lines = [
            _line(int(depth), head, fresh_key_ms(now_ms, PRIORITY_RANGES[tier].last, budgets_ms[tier], terms))
            for tier, depth, head in zip(rows, depths, heads, strict=True)
            if depth and head
        ]
        key_ms = order.key_ms(
            now_ms, profile.priority, profile.latency_budget_ms, profile.cost_ms, terms.size_q10, penalty=0
        )
        ahead = ahead_ms(key_ms, lines, terms.mean_ms)
        start_by_ms = now_ms + profile.latency_budget_ms
        seen = signs(now_ms, key_ms, start_by_ms, ahead, terms.slots, max(budgets_ms.values()))
        return Outlook(risk(seen, Weights()), ahead // terms.slots)


def _line(waiting: int, head: Any, fresh_ms: int) -> Line:
    ((_, score),) = head
    return Line(waiting, int(score) // order.SAME_MS, fresh_ms)

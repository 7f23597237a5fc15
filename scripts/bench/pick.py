"""How long does the server take to pick, with very many messages queued?

Measured inside the server, by its own command statistics (`INFO latencystats` and `commandstats`, always on and cheap,
unlike SLOWLOG or MONITOR): the time that one FCALL of the dispatch script holds the server, without the network and
the client. The statistics are reset before each window and nothing but picks runs in it. What was picked is put back
at its old place afterwards, so the depth is the same in each window.

Messages belong to many tenants and to `MODELS` models over nine lanes. Each pick comes from another worker that serves
`MODELS_OF_A_WORKER` of the models. Start budgets are long, so that nothing moves by itself while it is measured.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.order import pool_terms
from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.reference.limits import tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery, Place
from qosqueue.policy.terms import PRIORITY_RANGES, TIERS, WEIGHT_CLASSES, TaskType, lane_name

GROUP = "bench-pick"
PAYLOAD = "x" * 512
MODELS = 32
MODELS_OF_A_WORKER = 4
MODELS_OF_A_WIDE_WORKER = 16
BATCH = 1_000
TTL_MS, ATTEMPTS, BUDGET_MS = 86_400_000, 3, (3_600_000, 86_400_000)
COST_MS = 100, 20_000
POOL_SLOTS, POOL_MEAN_MS = 64, 4_000
LEASE_MS = 600_000
CAPPED_TENANTS, NEVER_REACHED = 100, 1 << 20


@dataclass(frozen=True)
class PickTimes:
    """The server's time for one pick: microseconds."""

    mean_us: float
    p50_us: float
    p99_us: float


class DeepQueue:
    """A queue of `messages` of `tenants`, and workers that pick from it."""

    def __init__(self, client: redis.Redis, messages: int, tenants: int, seed: int) -> None:
        self._client = client
        self._scripts = Scripts(client, GROUP)
        self._tenants = tenants
        self._fill(messages, random.Random(seed))

    def measure(self, picks: int, seed: int, *, models_of_a_worker: int = MODELS_OF_A_WORKER) -> PickTimes:
        """Pick so many messages, each for another worker, and put them back."""
        chance = random.Random(seed)
        self._pick(picks // 10, chance, models_of_a_worker)
        self._client.config_resetstat()
        taken = self._pick(picks, chance, models_of_a_worker, put_back=False)
        latency: dict[str, Any] = self._client.info("latencystats")["latency_percentiles_usec_fcall"]
        commands: dict[str, Any] = self._client.info("commandstats")["cmdstat_fcall"]
        self._put_back(taken)
        if commands["calls"] != picks:
            raise AssertionError(f"{commands['calls']} scripts ran where {picks} picks were to be measured")
        return PickTimes(commands["usec_per_call"], latency["p50"], latency["p99"])

    def limit(self) -> None:
        """Give some tenants caps, and each tier a bulkhead; nothing reaches them, every pick looks."""
        for tenant in range(CAPPED_TENANTS):
            self._scripts.limit(name=tenant_limit(f"tenant-{tenant}"), most=POOL_SLOTS)
        for tier in TIERS:
            self._scripts.limit(name=tier_limit(tier), most=NEVER_REACHED)

    def _pick(
        self, picks: int, chance: random.Random, models_of_a_worker: int, *, put_back: bool = True
    ) -> list[tuple[str, int]]:
        taken = []
        for number in range(picks):
            delivery = self._scripts.dispatch(
                lease_ms=LEASE_MS,
                holder=f"worker-{number}",
                places=self._places(chance, models_of_a_worker),
            )
            if isinstance(delivery, Delivery):
                taken.append((delivery.tag, delivery.fence))
        if put_back:
            self._put_back(taken)
        return taken

    def _places(self, chance: random.Random, models_of_a_worker: int) -> tuple[Place, ...]:
        """What one worker serves: its models (and messages without one) in every lane of their weight classes."""
        models = chance.sample(range(MODELS), models_of_a_worker)
        weights = sorted({_weight(model) for model in models})
        lanes = [lane_name(tier, WEIGHT_CLASSES[weight]) for tier in TIERS for weight in weights]
        return tuple((lane, model) for lane in lanes for model in ("", *map(_name, models)))

    def _put_back(self, taken: list[tuple[str, int]]) -> None:
        for tag, fence in taken:
            self._scripts.settle(tag=tag, fence=fence, outcome="requeue")

    def _fill(self, messages: int, chance: random.Random) -> None:
        self._scripts.load()
        terms = pool_terms(POOL_SLOTS, POOL_MEAN_MS, DEFAULT_BUDGET_MS[TaskType.ONLINE])
        for model in range(MODELS):
            self._scripts.pool(_name(model), terms)
        pipe = self._client.pipeline(transaction=False)
        for number in range(messages):
            model = chance.randrange(MODELS)
            tier = chance.choice(TIERS)
            lane, tenant = lane_name(tier, WEIGHT_CLASSES[_weight(model)]), f"tenant-{chance.randrange(self._tenants)}"
            budget_ms, cost_ms = chance.randint(*BUDGET_MS), chance.randint(*COST_MS)
            who = (f"tag-{number}", f"task-{number}", lane, _name(model), tenant, tenant)
            how = (PRIORITY_RANGES[tier].first, 0, budget_ms, cost_ms, 0, TTL_MS, ATTEMPTS)
            pipe.execute_command(  # type: ignore[no-untyped-call]
                *self._scripts.command("submit", *who, *how, PAYLOAD, 0, "")
            )
            if number % BATCH == BATCH - 1:
                pipe.execute()
        pipe.execute()


def _weight(model: int) -> int:
    return model % len(WEIGHT_CLASSES)


def _name(model: int) -> str:
    return f"model-{model}"

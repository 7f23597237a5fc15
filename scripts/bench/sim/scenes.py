"""Which situations do the benchmarks put the rules into?"""

from __future__ import annotations

import random
from dataclasses import replace

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.interface import Request
from scripts.bench.sim.setting import Setting
from scripts.bench.sim.shapes import flood
from scripts.bench.sim.tenants import CV_MEDIAN, Tenant, compose, drawn
from scripts.bench.sim.work import Work

QUIET_LOAD = 0.6
FLOOD_SHARE = 0.3
FLOOD_FROM_PART = 0.2
SHARDS = 10
FLOODER = "flooder"

CONTRACTS = (  # tier, contracted part of the pool, how many times that it sends
    (Tier.VIP, 0.15, 2.0),
    (Tier.STANDARD, 0.20, 3.0),
    (Tier.STANDARD, 0.10, 1.5),
    (Tier.BASIC, 0.25, 4.0),
    (Tier.BASIC, 0.15, 2.0),
    (Tier.BASIC, 0.15, 2.5),
)
EQUALS = 10
BATCH = "batch"
BATCH_EVERY_MS, CHUNK_MS = 60_000, 1_000


def mixed(setting: Setting, load: float, seed: int) -> Work:
    """The tenants of the mix at a load, with the load pattern of the setting."""
    tenants = compose(setting.mix, load, seed, cv=setting.cv)
    span_ms = setting.span_ms(load)
    shape = setting.pattern(span_ms)
    return setting.work(tenants, seed, span_ms=span_ms, shapes={tenant.name: shape for tenant in tenants})


def flooded(setting: Setting, seed: int, *, shards: int = 1) -> Work:
    """Quiet tenants bring .6 of the pool; one organisation's .3 becomes `flood_factor` times as much and stays so.

    The measured window is that of the flood. The organisation floods through so many tenants at once.
    """
    draw = random.Random(f"flooder {seed}")
    flooders = [
        drawn(Tenant(f"{FLOODER}-{shard}", setting.flood_tier, FLOOD_SHARE / shards, FLOODER), draw, cv=setting.cv)
        for shard in range(1, shards + 1)
    ]
    span_ms = setting.span_ms(QUIET_LOAD + FLOOD_SHARE)
    from_ms = round(FLOOD_FROM_PART * span_ms)
    return setting.work(
        [*compose(setting.mix, QUIET_LOAD, seed, cv=setting.cv), *flooders],
        seed,
        span_ms=span_ms,
        shapes={tenant.name: flood(setting.flood_factor, from_ms) for tenant in flooders},
        measured_from_ms=from_ms,
    )


def contracted(setting: Setting, seed: int) -> Work:
    """Tenants whose contracts sum to the pool; each sends some times its contract."""
    draw = random.Random(f"contracts {seed}")
    tenants = [
        drawn(Tenant(f"{tier}-{number}", tier, times * contract, contract=contract), draw, cv=setting.cv)
        for number, (tier, contract, times) in enumerate(CONTRACTS, 1)
    ]
    load = sum(tenant.share for tenant in tenants)
    return setting.work(tenants, seed, span_ms=round(load * setting.span_ms(load)))


def equals(setting: Setting, load: float, seed: int) -> Work:
    """Ten standard tenants that differ in nothing but chance."""
    cv = CV_MEDIAN if setting.cv is None else setting.cv
    tenants = [Tenant(f"standard-{number}", Tier.STANDARD, load / EQUALS, cv=cv) for number in range(1, EQUALS + 1)]
    return setting.work(tenants, seed, span_ms=setting.span_ms(load))


def with_batch(work: Work, part: float, seed: int, *, window_ms: int) -> Work:
    """The work and a batch job each minute, whose chunks hold `part` of the slots that the work leaves idle.

    Each chunk is one request of half a second to a second; it is in budget if it starts within the window.
    """
    draw = random.Random(f"batch {seed}")
    slots = work.pool.slots
    idle_slots = slots - sum(request.service_ms for request in work.requests) / work.span_ms
    chunks = []
    for begin_ms in range(0, work.span_ms, BATCH_EVERY_MS):
        left_ms = part * idle_slots * BATCH_EVERY_MS
        while left_ms > 0:
            service_ms = draw.randint(CHUNK_MS // 2, CHUNK_MS)
            left_ms -= service_ms
            chunks.append(_chunk(begin_ms, service_ms, window_ms))
    together = sorted([*work.requests, *chunks], key=lambda request: request.arrival_ms)
    return replace(work, requests=[replace(request, id=index) for index, request in enumerate(together)])


def _chunk(arrival_ms: int, service_ms: int, window_ms: int) -> Request:
    return Request(
        id=0,
        tenant=BATCH,
        organisation=BATCH,
        tier=Tier.BASIC,
        task_type=TaskType.BATCH,
        arrival_ms=arrival_ms,
        budget_ms=window_ms,
        service_ms=service_ms,
        predicted_ms=service_ms,
        prompt_tokens=0,
        output_tokens=service_ms,
    )


def only(work: Work, tier: Tier) -> Work:
    """The same work without the other tiers' requests: the tier alone on the pool."""
    kept = [replace(request, id=index) for index, request in enumerate(_of_tier(work, tier))]
    return replace(work, requests=kept)


def _of_tier(work: Work, tier: Tier) -> list[Request]:
    return [request for request in work.requests if request.tier is tier]

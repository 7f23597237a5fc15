"""Which situations do the benchmarks put the rules into?"""

from __future__ import annotations

import random
from dataclasses import replace

from qosqueue.policy.terms import Tier
from scripts.bench.policies.interface import Request
from scripts.bench.sim.setting import Setting
from scripts.bench.sim.shapes import flood
from scripts.bench.sim.tenants import Tenant, compose, drawn
from scripts.bench.sim.work import Work

QUIET_LOAD = 0.6
FLOOD_SHARE = 0.3
FLOOD_FROM_PART = 0.2
SHARDS = 10
FLOODER = "flooder"


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


def only(work: Work, tier: Tier) -> Work:
    """The same work without the other tiers' requests: the tier alone on the pool."""
    kept = [replace(request, id=index) for index, request in enumerate(_of_tier(work, tier))]
    return replace(work, requests=kept)


def _of_tier(work: Work, tier: Tier) -> list[Request]:
    return [request for request in work.requests if request.tier is tier]

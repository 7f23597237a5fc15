"""Who sends requests in a simulation, how much, how unevenly and how long?

Shares are parts of the pool (1 is all slots busy all the time). Burstiness and lengths are drawn around real figures:
among the twenty largest clients of each of ServeGen's models (arXiv 2505.09999) the CV of gaps has a median of 1.1,
quartile 1.7, 95th percentile 4.7 and 99th 10.9, and a few carry most of the load; the sigma of log-normal output
lengths is .5 in Mooncake's conversation trace, 1.0 at ServeGen's median client, 1.3 in Azure's code trace of 2023.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from qosqueue.policy.terms import TIERS, Tier

BUDGETS_MS: Mapping[Tier, int] = {Tier.VIP: 1_000, Tier.STANDARD: 3_000, Tier.BASIC: 10_000}

CV_MEDIAN, CV_SIGMA, CV_LIMITS = 1.2, 0.7, (0.8, 11.0)
PROMPT_MEDIAN, OUTPUT_MEDIAN = 900, 200
MEDIAN_SIGMA = 0.35  # how far the medians of tenants lie apart
LENGTH_SIGMA = 0.7  # how far the lengths of one tenant lie apart
SHARE_EXPONENT = 0.8  # the n-th tenant of a tier has a share like n ** -.8: the first of twelve carries a quarter


@dataclass(frozen=True)
class Tenant:
    """One sender: its share of the pool, the CV of its gaps, and log-normal lengths in tokens."""

    name: str
    tier: Tier
    share: float
    organisation: str = ""
    contract: float | None = None
    cv: float = 1.0
    prompt_median: float = PROMPT_MEDIAN
    output_median: float = OUTPUT_MEDIAN
    length_sigma: float = LENGTH_SIGMA


@dataclass(frozen=True)
class Mix:
    """How many tenants a tier has and which part of the load they bring together (the parts sum to 1)."""

    tenants: Mapping[Tier, int]
    parts: Mapping[Tier, float]


DEFAULT_MIX = Mix(
    tenants={Tier.VIP: 2, Tier.STANDARD: 6, Tier.BASIC: 12},
    parts={Tier.VIP: 0.15, Tier.STANDARD: 0.35, Tier.BASIC: 0.50},
)


def compose(mix: Mix, load: float, seed: int, *, cv: float | None = None) -> list[Tenant]:
    """The tenants of a mix, which together bring `load` (parts of the pool); `cv` replaces each tenant's own."""
    draw = random.Random(f"tenants {seed}")
    tenants = []
    for tier in TIERS:
        weights = [rank**-SHARE_EXPONENT for rank in range(1, mix.tenants[tier] + 1)]
        for rank, weight in enumerate(weights, 1):
            share = load * mix.parts[tier] * weight / sum(weights)
            tenants.append(drawn(Tenant(f"{tier}-{rank}", tier, share), draw, cv=cv))
    return tenants


def drawn(tenant: Tenant, draw: random.Random, *, cv: float | None = None) -> Tenant:
    """The tenant with burstiness and median lengths of its own."""
    low, high = CV_LIMITS
    own_cv = min(high, max(low, CV_MEDIAN * draw.lognormvariate(0, CV_SIGMA)))
    return replace(
        tenant,
        cv=own_cv if cv is None else cv,
        prompt_median=PROMPT_MEDIAN * draw.lognormvariate(0, MEDIAN_SIGMA),
        output_median=OUTPUT_MEDIAN * draw.lognormvariate(0, MEDIAN_SIGMA),
    )

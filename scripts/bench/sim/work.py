"""Which requests does a run bring?

The same seed gives the same requests whatever the load: a higher load brings the same ones at a faster pace, so that a
sweep over loads compares like with like.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.interface import Pool, Request
from scripts.bench.sim.shapes import STEADY, Shape
from scripts.bench.sim.tenants import BUDGETS_MS, Tenant

WARM_UP_PART = 0.1
SETTLING_GAPS = 50  # mean gaps before the run: renewals forget that they were all begun at one instant
PROMPT_TOKEN_COST = 0.02  # of an output token's: prompts are read many tokens at a time


@dataclass(frozen=True)
class Scale:
    """How large a run is: slots, mean service, how many requests arrive, and how wrong predictions are.

    `predicted = service x lognormal(sigma)`, with a median of 1.
    """

    slots: int = 64
    mean_service_ms: int = 4_000
    requests: int = 30_000
    sigma: float = 0.6

    def span_ms(self, load: float) -> int:
        """How long so many requests take to arrive at a load (1: all slots busy)."""
        return round(self.requests * self.mean_service_ms / (self.slots * load))


@dataclass(frozen=True)
class Work:
    """Requests in order of arrival (ids count from 0), and the window of arrivals that is measured."""

    requests: Sequence[Request]
    span_ms: int
    measured_from_ms: int
    measured_to_ms: int
    pool: Pool


class Sent(NamedTuple):
    """A request before it has an id: when, who sends it, and how long it is in tokens."""

    arrival_ms: int
    tenant: Tenant
    prompt_tokens: int
    output_tokens: int


def cost(prompt_tokens: float, output_tokens: float) -> float:
    """Length in output tokens: what service time is proportional to."""
    return output_tokens + PROMPT_TOKEN_COST * prompt_tokens


def synthetic(
    tenants: Sequence[Tenant],
    scale: Scale,
    seed: int,
    *,
    shapes: Mapping[str, Shape] | None = None,
    budgets_ms: Mapping[Tier, int] = BUDGETS_MS,
    span_ms: int | None = None,
    measured_from_ms: int | None = None,
) -> Work:
    """Drawn work: Gamma gaps and log-normal lengths for each tenant, the load in sum exactly as asked.

    `shapes` holds the shape of each tenant that is not steady.
    """
    load = sum(tenant.share for tenant in tenants)
    span_ms = span_ms or scale.span_ms(load)
    ms_per_token = scale.mean_service_ms * sum(tenant.share / _mean_cost(tenant) for tenant in tenants) / load
    sent: list[Sent] = []
    asked_slot_ms = 0.0
    for tenant in tenants:
        shape = (shapes or {}).get(tenant.name, STEADY)
        share_slots = tenant.share * scale.slots
        asked_slot_ms += share_slots * shape.work_until(span_ms)
        mean_gap_ms = ms_per_token * _mean_cost(tenant) / share_slots
        sent.extend(_stream(tenant, shape, mean_gap_ms, span_ms, random.Random(f"work {seed} {tenant.name}")))
    sent.sort(key=lambda one: one.arrival_ms)
    return finished(
        sent,
        asked_slot_ms,
        scale,
        seed,
        span_ms=span_ms,
        budgets_ms=budgets_ms,
        measured_from_ms=measured_from_ms,
    )


def finished(
    sent: Sequence[Sent],
    asked_slot_ms: float,
    scale: Scale,
    seed: int,
    *,
    span_ms: int,
    budgets_ms: Mapping[Tier, int] = BUDGETS_MS,
    measured_from_ms: int | None = None,
) -> Work:
    """Work of what was sent, in order of arrival; service times are scaled to bring `asked_slot_ms` in sum.

    Warm-up (a tenth of the span unless told) and the last requests, whose wait the end of the arrivals would shorten,
    are not measured.
    """
    ms_per_token = asked_slot_ms / sum(cost(one.prompt_tokens, one.output_tokens) for one in sent)
    draw = random.Random(f"prediction {seed}")
    requests = []
    for index, (arrival_ms, tenant, prompt_tokens, output_tokens) in enumerate(sent):
        service_ms = max(1, round(cost(prompt_tokens, output_tokens) * ms_per_token))
        requests.append(
            Request(
                id=index,
                tenant=tenant.name,
                organisation=tenant.organisation or tenant.name,
                tier=tenant.tier,
                task_type=TaskType.ONLINE,
                arrival_ms=arrival_ms,
                budget_ms=budgets_ms[tenant.tier],
                service_ms=service_ms,
                predicted_ms=max(1, round(service_ms * math.exp(scale.sigma * draw.gauss(0, 1)))),
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
            )
        )
    contracts = {one.tenant.name: one.tenant.contract for one in sent if one.tenant.contract is not None}
    return Work(
        requests=requests,
        span_ms=span_ms,
        measured_from_ms=round(WARM_UP_PART * span_ms) if measured_from_ms is None else measured_from_ms,
        measured_to_ms=span_ms - max(budgets_ms.values()),
        pool=Pool(
            scale.slots, max(1, round(asked_slot_ms / len(sent))), dict(budgets_ms), dict(sorted(contracts.items()))
        ),
    )


def _mean_cost(tenant: Tenant) -> float:
    return cost(tenant.prompt_median, tenant.output_median) * math.exp(tenant.length_sigma**2 / 2)


def _stream(tenant: Tenant, shape: Shape, mean_gap_ms: float, span_ms: int, draw: random.Random) -> Iterator[Sent]:
    """The arrivals of one tenant, and their lengths."""
    sigma = tenant.length_sigma
    for arrival_ms in shape.arrivals(_renewals(tenant.cv, mean_gap_ms, draw), span_ms):
        prompt_tokens = max(1, round(tenant.prompt_median * math.exp(sigma * draw.gauss(0, 1))))
        output_tokens = max(1, round(tenant.output_median * math.exp(sigma * draw.gauss(0, 1))))
        yield Sent(arrival_ms, tenant, prompt_tokens, output_tokens)


def _renewals(cv: float, mean_gap_ms: float, draw: random.Random) -> Iterator[float]:
    """Rising instants from 0, whose gaps are Gamma with this mean and CV; endless."""
    shape = cv**-2
    scale_ms = mean_gap_ms / shape
    instant = -SETTLING_GAPS * mean_gap_ms
    while True:
        instant += draw.gammavariate(shape, scale_ms)
        if instant >= 0:
            yield instant

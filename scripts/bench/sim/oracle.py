"""How many requests could a clairvoyant have started in budget, at most?

An upper bound for every schedule of the fixed-slot model, known future and exact service times included. Take the
time-indexed program: request j may begin at any s in [arrival, arrival + budget] and then holds one slot for its
service; at no instant are more than K slots held; as many requests as possible begin. Give each instant a price per
slot and drop the limit K (Lagrangian relaxation): the requests fall apart, each is worth 1 less the price of the
cheapest interval it may hold, and for any prices that are not negative

    K x (sum of all prices) + sum over j of max(0, 1 - cheapest interval of j)

is no less than what any schedule reaches. The prices are improved by subgradient steps (Held and Karp 1971), so the
bound is valid whenever they stop, and near the linear relaxation when they have settled. What remains between it and
the best real schedule is the gap of that relaxation, which is small when one request is a small part of the pool.
Requests that are not measured cost nothing here, which also errs upwards. Continuous batching is faster than fixed
slots when it is not full: there the bound does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qosqueue.policy.terms import Tier
from scripts.bench.sim.tally import measured
from scripts.bench.sim.work import Work

STEPS = 150
BUCKET_MS = 1_000
FIRST_STEP = 0.3  # of the first price, at a pool that is used twice
MOST_STARTS_TRIED = 12  # instants of the grid on each side, per request

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class _Choices:
    """For each request the intervals it may hold: (request x choice) begins and ends, in buckets."""

    begin: Floats
    end: Floats
    always: NDArray[np.bool_]
    """Requests that must begin, whatever it costs."""


def bound(work: Work, *, keeping: Tier | None = None, steps: int = STEPS) -> float:
    """The largest share of the measured requests that any schedule starts in budget; `keeping`: with all of a tier."""
    choices = _choices(work, keeping)
    buckets = int(choices.end.max()) + 2
    return _lagrangian(choices, work.pool.slots, buckets, steps) / len(choices.begin)


def _choices(work: Work, keeping: Tier | None) -> _Choices:
    """Within a bucket the price is constant, so some cheapest interval begins or ends at an edge of the window or grid.

    If a budget spans more buckets than are tried, the bucket grows instead (the prices are coarser, the bound holds).
    """
    requests = list(measured(work))
    first_ms = requests[0].arrival_ms
    bucket_ms = max(BUCKET_MS, -(-max(request.budget_ms for request in requests) // (MOST_STARTS_TRIED - 2)))
    arrival = np.array([request.arrival_ms - first_ms for request in requests], float)[:, None] / bucket_ms
    budget = np.array([request.budget_ms for request in requests], float)[:, None] / bucket_ms
    service = np.array([request.service_ms for request in requests], float)[:, None] / bucket_ms
    grid = np.arange(MOST_STARTS_TRIED, dtype=float)[None, :]
    begins = np.concatenate(
        [arrival, arrival + budget, np.floor(arrival) + grid, np.floor(arrival + service) + grid - service], axis=1
    )
    begins = np.clip(begins, arrival, arrival + budget)
    return _Choices(begins, begins + service, np.array([request.tier is keeping for request in requests]))


def _lagrangian(choices: _Choices, slots: int, buckets: int, steps: int) -> float:
    """The smallest bound that was met while the prices were improved."""
    begin_bucket, end_bucket = choices.begin.astype(np.int64), choices.end.astype(np.int64)
    begin_part, end_part = choices.begin - begin_bucket, choices.end - end_bucket
    price = np.full(buckets, _first_price(choices, slots, buckets))
    first, best, rows = price[0], float(len(choices.begin)), np.arange(len(choices.begin))
    for step in range(steps):
        before = np.concatenate([[0.0], np.cumsum(price)])[:-1]
        costs = before[end_bucket] + end_part * price[end_bucket]
        costs -= before[begin_bucket] + begin_part * price[begin_bucket]
        chosen = costs.argmin(axis=1)
        worth = 1 - costs[rows, chosen]
        taken = (worth > 0) | choices.always
        best = min(best, slots * float(price.sum()) + float(worth[taken].sum()))
        used = _usage(begin_bucket, begin_part, rows[taken], chosen[taken], buckets) - _usage(
            end_bucket, end_part, rows[taken], chosen[taken], buckets
        )
        price = np.maximum(0.0, price + FIRST_STEP * first / np.sqrt(1 + step) * (used / slots - 1))
    return best


def _first_price(choices: _Choices, slots: int, buckets: int) -> float:
    """What the largest request pays if the smallest fill the whole run."""
    services = np.sort(choices.end[:, 0] - choices.begin[:, 0])
    fitting = int(np.searchsorted(np.cumsum(services), slots * buckets))
    return 1.0 / float(services[min(fitting, len(services) - 1)])


def _usage(bucket: Whole, part: Floats, rows: Whole, chosen: Whole, buckets: int) -> Floats:
    """Slots that requests would hold in each bucket if each held one from its instant on for ever."""
    at, part_of = bucket[rows, chosen], part[rows, chosen]
    begun = np.bincount(at, minlength=buckets).astype(float)
    return np.cumsum(begun) - np.bincount(at, weights=part_of, minlength=buckets)

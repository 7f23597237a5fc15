"""How likely is it that a waiting request misses its start budget, with what is known now?

    P(late) = 1 / (1 + exp(-(base + w · √(wait / slack) + v · (key - start by) / longest)))

`wait` is the predicted work ahead of the request over what the pool drains (Patke et al., "Queue Management for
SLO-Oriented Large Language Model Serving", SoCC 2024); `slack` is the time until it must start. The second term is what
the order itself says: a key long before the instant by which the request must start is served in time even while the
head of the order is late, and one after it is what the order gives up first. A logistic curve stands for the normal
one (they differ by less than .01), because its weights can be learned from one outcome at a time. The first weights
and the square root were found in simulation (docs/design/fairness.md).

Nothing of it enters a key: it changes with time. Instants in ms since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qosqueue.policy.order import PoolTerms, key_ms

MOST_SIGN = 4.0
"""Beyond this no sign says more, and no outcome teaches more."""

LEARNING_RATE = 1 / 64


@dataclass(frozen=True)
class Line:
    """The live requests of one tier before one model: how many, the key of the first, and the key that one of mean size
    would get now. Between the two the others are taken to stand evenly."""

    waiting: int
    head_ms: int
    fresh_ms: int


@dataclass(frozen=True)
class Signs:
    """What tells of being late, more is worse: √(wait / slack), and how far the key lies after the start-by instant as
    a part of the pool's longest start budget."""

    wait: float
    place: float


@dataclass(frozen=True)
class Weights:
    """How much each sign counts, in log odds. `wait` and `place` are never below 0: more work ahead never means less
    risk."""

    base: float = -12.1
    wait: float = 10.6
    place: float = 12.3


CERTAIN = Signs(MOST_SIGN, MOST_SIGN)
"""The signs of what has not started by the instant by which it should."""


def fresh_key_ms(now_ms: int, priority: int, budget_ms: int, terms: PoolTerms) -> int:
    """The key of a request of mean size, without a penalty, that arrives now."""
    return key_ms(now_ms, priority, budget_ms, terms.mean_ms, terms.size_q10, 0)


def ahead_ms(key_ms: int, lines: Iterable[Line], mean_ms: int) -> int:
    """Predicted work, in ms of one slot, that stands before a key: of each line the part whose keys are smaller."""
    ahead = 0
    for line in lines:
        span_ms = max(1, line.fresh_ms - line.head_ms)
        ahead += line.waiting * mean_ms * min(max(0, key_ms - line.head_ms), span_ms) // span_ms
    return ahead


def signs(now_ms: int, key_ms: int, start_by_ms: int, ahead_ms: int, slots: int, longest_ms: int) -> Signs:
    """The signs of a waiting request with so much work ahead of it; no slots known count as one.

    `start_by_ms` is the end of its start budget, `longest_ms` the longest start budget of the pool's tiers.
    """
    slack_ms = start_by_ms - now_ms
    if slack_ms <= 0:
        return CERTAIN
    wait = math.sqrt(ahead_ms / (max(1, slots) * slack_ms))
    place = (key_ms - start_by_ms) / max(1, longest_ms)
    return Signs(min(wait, MOST_SIGN), min(max(-MOST_SIGN, place), MOST_SIGN))


def risk(seen: Signs, weights: Weights) -> float:
    """The probability, from 0 to 1, that the request does not start by the instant by which it should."""
    odds = weights.base + weights.wait * seen.wait + weights.place * seen.place
    # exp overflows a little above 709.
    return 1 / (1 + math.exp(-max(-700.0, odds)))


def learned(weights: Weights, seen: Signs, *, late: bool) -> Weights:
    """The weights after one more outcome: a step down the slope of its log loss."""
    step = LEARNING_RATE * (late - risk(seen, weights))
    return Weights(
        weights.base + step, max(0.0, weights.wait + step * seen.wait), max(0.0, weights.place + step * seen.place)
    )

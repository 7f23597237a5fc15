"""What do the outcomes of a run come to, tier by tier?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qosqueue.policy.terms import Tier
from scripts.demo.load import STREAMS, Budget


@dataclass(frozen=True)
class Outcome:
    """How one request ended: ms from its arrival to first token and end, None: not in the window. `fault`: an error."""

    tier: Tier
    first_token_ms: float | None = None
    end_ms: float | None = None
    tokens: int = 0
    fault: str | None = None

    def met(self, budget: Budget) -> bool:
        """Whether it ended in the window and kept its budget. A refused or unfinished request has not."""
        judged = self.first_token_ms if budget.first_token else self.end_ms
        return self.end_ms is not None and judged is not None and (budget.ms is None or judged <= budget.ms)


@dataclass(frozen=True)
class Figures:
    """One tier under one order. Times in ms; None: that percentile lies among requests that did not get so far."""

    requests: int
    done: int
    met: int
    first_token_p50_ms: float | None
    first_token_p99_ms: float | None
    end_p50_ms: float | None
    end_p99_ms: float | None
    tokens_per_s: float

    @property
    def met_percent(self) -> float:
        """Share of all requests that kept their budget."""
        return 100 * self.met / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Run:
    """The figures of one way: by tier, the tokens of all, and the different faults with their number."""

    tiers: Mapping[Tier, Figures]
    tokens_per_s: float
    faults: Mapping[str, int]


def sum_up(outcomes: Sequence[Outcome], seconds: float) -> Run:
    """The figures of one run over a window of `seconds`."""
    faults: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.fault is not None:
            faults[outcome.fault] = faults.get(outcome.fault, 0) + 1
    tiers = {tier: _figures([one for one in outcomes if one.tier == tier], tier, seconds) for tier in STREAMS}
    return Run(tiers, sum(figures.tokens_per_s for figures in tiers.values()), faults)


def percentile(values: Iterable[float | None], percent: int) -> float | None:
    """The smallest value that `percent` of all values do not exceed (nearest rank); None counts as the longest time."""
    ordered = sorted(math.inf if value is None else value for value in values)
    if not ordered:
        return None
    found = ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]
    return None if math.isinf(found) else found


def _figures(outcomes: Sequence[Outcome], tier: Tier, seconds: float) -> Figures:
    first = [outcome.first_token_ms for outcome in outcomes]
    end = [outcome.end_ms for outcome in outcomes]
    return Figures(
        requests=len(outcomes),
        done=sum(at is not None for at in end),
        met=sum(outcome.met(STREAMS[tier].judged) for outcome in outcomes),
        first_token_p50_ms=percentile(first, 50),
        first_token_p99_ms=percentile(first, 99),
        end_p50_ms=percentile(end, 50),
        end_p99_ms=percentile(end, 99),
        tokens_per_s=sum(outcome.tokens for outcome in outcomes if outcome.end_ms is not None) / seconds,
    )

"""What did the requests of a run get: how many started in their budget, and how long did they wait?

Only online requests that arrived in the measured window count. A request that was rejected, given up or never started
is a miss; its wait lasts until the end of the run, which is less than the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.interface import Request
from scripts.bench.report import percentile
from scripts.bench.sim.loop import NOT_STARTED, Outcome
from scripts.bench.sim.work import Work

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Part:
    """The requests of one group."""

    in_budget: int = 0
    waits_ms: list[int] = field(default_factory=list)
    """From arrival to start."""
    ends_ms: list[int] = field(default_factory=list)
    """From arrival to the end."""

    @property
    def count(self) -> int:
        """All requests of the group."""
        return len(self.waits_ms)

    @property
    def in_slo(self) -> float:
        """Share that started in budget."""
        return self.in_budget / self.count

    def wait_ms(self, percent: float) -> float:
        """Percentile of the waits."""
        return percentile(self.waits_ms, percent)

    def end_to_end_ms(self, percent: float) -> float:
        """Percentile of the times from arrival to the end."""
        return percentile(self.ends_ms, percent)


def measured(work: Work, task_type: TaskType = TaskType.ONLINE) -> Iterator[Request]:
    """The requests that count."""
    for request in work.requests:
        if work.measured_from_ms <= request.arrival_ms < work.measured_to_ms and request.task_type is task_type:
            yield request


def parts(
    work: Work, outcome: Outcome, key: Callable[[Request], Key], task_type: TaskType = TaskType.ONLINE
) -> dict[Key, Part]:
    """The measured requests in groups, each of at least one."""
    groups: dict[Key, Part] = {}
    started_ms, ended_ms = outcome.started_ms, outcome.ended_ms
    for request in measured(work, task_type):
        part = groups.setdefault(key(request), Part())
        start = started_ms[request.id]
        if start == NOT_STARTED:
            wait = end = max(outcome.over_ms - request.arrival_ms, request.budget_ms + 1)
        else:
            wait, end = start - request.arrival_ms, ended_ms[request.id] - request.arrival_ms
        part.in_budget += wait <= request.budget_ms
        part.waits_ms.append(wait)
        part.ends_ms.append(end)
    return groups


def by_tier(work: Work, outcome: Outcome) -> dict[Tier, Part]:
    """The measured requests by tier."""
    return parts(work, outcome, lambda request: request.tier)


def in_slo(groups: dict[Key, Part]) -> float:
    """Share that started in budget over all groups."""
    return sum(part.in_budget for part in groups.values()) / sum(part.count for part in groups.values())

"""What does the simulator ask of a scheduling rule?

A rule sees a request when it arrives, is asked for one whenever a slot is free, and is told when one has ended.
Times are whole milliseconds of simulated time, lengths are tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from qosqueue.policy.terms import TaskType, Tier

MODEL = "model"


@dataclass(slots=True, eq=False)
class Request:
    """One simulated request.

    `budget_ms` is the start budget: the request is in its SLO if it starts within so long of its arrival.
    `service_ms` is what it will hold a slot for; only the server model and the oracle may read it. A rule knows
    `predicted_ms`, and what the request says of itself.
    """

    id: int
    tenant: str
    organisation: str
    tier: Tier
    task_type: TaskType
    arrival_ms: int
    budget_ms: int
    service_ms: int
    predicted_ms: int
    prompt_tokens: int
    output_tokens: int
    model: str = MODEL


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may start now, but something waits: ask again after so long, or when anything has changed."""

    retry_after_ms: int


@dataclass(frozen=True)
class Pool:
    """What a rule is told before it begins: the slots it shares, the mean service, and what tenants were promised.

    `contracts` holds each tenant's contracted share of the pool (0 to 1; none: no contract). `budgets_ms` holds the
    start budget of each tier's online requests.
    """

    slots: int
    mean_service_ms: int
    budgets_ms: Mapping[Tier, int]
    contracts: Mapping[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """A scheduling rule over one pool of equal slots."""

    def submit(self, now_ms: int, request: Request) -> bool:
        """A request arrives; False: it is rejected at the door, which counts as a miss."""

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        """What the next free slot starts; `free_slots` counts that slot too. None: nothing waits.

        A request that the rule gives up is simply never returned: it counts as a miss.
        """

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """A request has ended and its slot is free; `service_ms` is what it took."""


MakePolicy = Callable[[Pool], Policy]

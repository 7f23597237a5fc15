"""What is tried when a request cannot go its way, in the order that its tenant's policy gives?"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from qosqueue.policy.terms import RoadStep, TaskType

DEFAULT_ROAD = (RoadStep.RETRY, RoadStep.FALLBACK, RoadStep.REJECT)
SHORTEST_OUTPUT = 16
SHORTENED_TO = 4
"""A degraded answer may have 1/4 of the tokens that were asked for."""

LEAST_ATTEMPTS, MOST_ATTEMPTS = 2, 5
FAILS_IN = 10
"""One attempt in ten is taken to fail: what a target of success needs of attempts follows from it."""
DEFAULT_ATTEMPTS = {TaskType.ONLINE: 2, TaskType.ASYNC: 3, TaskType.BATCH: 3}


class Trouble(StrEnum):
    """What stands in the way: the model is out of service or has failed; there is no room for so many tokens; it would
    start too late; there is no room for one more request."""

    MODEL = "model"
    TOKENS = "tokens"
    LATE = "late"
    FULL = "full"


_HELPS = {
    RoadStep.FALLBACK: {Trouble.MODEL, Trouble.LATE},
    RoadStep.DEGRADE: {Trouble.TOKENS, Trouble.LATE},
    RoadStep.DEFER: {Trouble.MODEL, Trouble.LATE, Trouble.FULL},
}

_TROUBLES = {
    "model_unavailable": Trouble.MODEL,
    "engine_failed": Trouble.MODEL,
    "resource_unavailable": Trouble.LATE,
    "queue_full": Trouble.FULL,
}


def trouble_of(code: str, *, of_tokens: bool = False) -> Trouble | None:
    """What an error's code means for the road; None: nothing on it helps. `of_tokens`: a quota of tokens is full."""
    return Trouble.TOKENS if of_tokens else _TROUBLES.get(code)


def steps(road: Sequence[RoadStep] | None, trouble: Trouble) -> tuple[RoadStep, ...]:
    """What may help, in the order of the road, up to where it says to reject. None: the default road."""
    found = []
    for step in DEFAULT_ROAD if road is None else road:
        if step is RoadStep.REJECT:
            break
        if trouble in _HELPS.get(step, ()):
            found.append(step)
    return tuple(found)


def is_tried_again(road: Sequence[RoadStep] | None) -> bool:
    """Whether a failed attempt is repeated while nobody has heard anything of it."""
    return road is None or RoadStep.RETRY in road


def shortened(output_tokens: int) -> int | None:
    """How long a degraded answer may be; None: it is short already."""
    shorter = max(SHORTEST_OUTPUT, output_tokens // SHORTENED_TO)
    return shorter if shorter < output_tokens else None


def attempts_for(task_type: TaskType, success_percent: int | None) -> int:
    """How many attempts a request may have: so many that, at one failure in ten, its target of success is met.

    Without a target, the default of the task type. Never fewer than two, for a worker may die; 100 percent is never
    met, so it gets the most.
    """
    if success_percent is None:
        return DEFAULT_ATTEMPTS[task_type]
    # With n attempts one request in FAILS_IN^n fails.
    enough = (n for n in range(LEAST_ATTEMPTS, MOST_ATTEMPTS) if (100 - success_percent) * FAILS_IN**n >= 100)
    return next(enough, MOST_ATTEMPTS)

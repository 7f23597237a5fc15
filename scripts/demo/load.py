"""Which requests does the demonstration send, and when? The same for both ways: it is recorded before they start."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from qosqueue.policy.terms import TaskType, Tier

# Arrivals stop so long before the window ends that every request has its whole budget inside the window.
TAIL_S = 4.0
MIN_SECONDS = 10
MAX_SECONDS = 120

# Text that a small model does not finish early, so that the work is what the token limits say.
_ASKS = {
    Tier.VIP: "Answer in two sentences: {}",
    Tier.STANDARD: "Write a short paragraph for a travel guide: {}",
    Tier.BASIC: "Give keywords: {}",
}
_QUESTIONS = (
    "what should one see in Lisbon on a rainy day?",
    "which trains go along the Rhine in the evening?",
    "where do people in Kyoto eat noodles at noon?",
    "how cold is it in Oslo at the end of March?",
    "which museum in Vienna is good for children?",
    "how does one get from Porto to the sea?",
    "what is sold on the old market of Krakow?",
    "why are the roofs of Dubrovnik red?",
)


@dataclass(frozen=True)
class Budget:
    """What a tier's requests are judged by: the first token or the whole answer, within `ms` of the arrival."""

    first_token: bool
    ms: int | None

    def __str__(self) -> str:
        if self.ms is None:
            return "done in the window"
        limit = f"{self.ms / 1000:g} s" if self.ms >= 1000 else f"{self.ms} ms"
        return f"{'first token' if self.first_token else 'answer'} within {limit}"


@dataclass(frozen=True)
class Stream:
    """How one tenant asks: from `first_s` on, `per_s` requests a second with even jitter, `at_once` of them together.

    `budget_ms` is what the request states; `judged` is how it is judged here.
    """

    task_type: TaskType
    first_s: float
    per_s: float
    at_once: int
    max_tokens: int
    budget_ms: int
    judged: Budget


# Sized for SmolLM2-135M on one core of two, which makes 50 to 80 tokens a second: vip and standard alone take half of
# that; the flood alone takes more than all of it, with the prompts that it brings. It comes in batches, as from a
# file, so that a faster machine has a backlog too.
STREAMS: dict[Tier, Stream] = {
    Tier.VIP: Stream(TaskType.ONLINE, 0.3, 1.0, 1, 20, 500, Budget(True, 500)),
    Tier.STANDARD: Stream(TaskType.ASYNC, 0.6, 0.6, 1, 24, 4_000, Budget(False, 4_000)),
    Tier.BASIC: Stream(TaskType.BATCH, 1.0, 11.0, 27, 8, 60_000, Budget(False, None)),
}


@dataclass(frozen=True)
class Arrival:
    """One recorded request: `at_s` seconds after the start of the window."""

    at_s: float
    tier: Tier
    prompt: str
    max_tokens: int

    @property
    def stream(self) -> Stream:
        """The stream that it is part of."""
        return STREAMS[self.tier]


def record(seconds: float, seed: int) -> tuple[Arrival, ...]:
    """All requests of a window of `seconds`, in order of arrival; the same for the same arguments."""
    arrivals = [arrival for tier in STREAMS for arrival in _of_tier(tier, seconds - TAIL_S, seed)]
    return tuple(sorted(arrivals, key=lambda arrival: (arrival.at_s, arrival.tier)))


def _of_tier(tier: Tier, last_s: float, seed: int) -> Iterator[Arrival]:
    stream = STREAMS[tier]
    # A generator of its own for each tier: changing one stream leaves the others as they were.
    chance = random.Random(f"{seed} {tier}")
    at_s = stream.first_s
    while at_s < last_s:
        for _ in range(stream.at_once):
            yield Arrival(at_s, tier, _ASKS[tier].format(chance.choice(_QUESTIONS)), stream.max_tokens)
        at_s += chance.uniform(0.5, 1.5) * stream.at_once / stream.per_s

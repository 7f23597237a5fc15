"""What do LiteLLM's dynamic shares do?

BerriAI/litellm, litellm/proxy/hooks/dynamic_rate_limiter_v3.py ("Dynamic TPM/RPM Allocation" in its documentation):
a limit of requests in windows of 60 s, checked at the door; what is over it is rejected (429) and nothing waits there.

- The model's own limit always holds. Each priority's share of it holds only from the saturation threshold on (0.5 by
  default): the requests of this window over the model's limit.
- Every accepted request counts for the model and for its priority, also when borrowed below the threshold.
- The window opens with the first request after the last one has closed.

The model's limit is what the pool can serve in a window, slots / mean service. Shares (`priority_reservation`) are the
operator's; here .4, .3 and .2 for the tiers and .1 for batch work. What is accepted goes straight on to the engine,
which takes it first come, first served.
"""

from __future__ import annotations

from collections import deque

from scripts.bench.policies.classes import CLASS_COUNT, class_of
from scripts.bench.policies.interface import Pool, Request

WINDOW_MS = 60_000
SATURATION_THRESHOLD = 0.5
SHARES = (0.4, 0.3, 0.2, 0.1)


class LiteLlm:
    """Counters of one window at the door, and the engine's line behind it."""

    def __init__(self, pool: Pool) -> None:
        self._limit = max(1, WINDOW_MS * pool.slots // pool.mean_service_ms)
        self._share_limits = [int(self._limit * share) for share in SHARES]
        self._window_ends_ms = 0
        self._accepted = 0
        self._accepted_of = [0] * CLASS_COUNT
        self._engine: deque[Request] = deque()

    def submit(self, now_ms: int, request: Request) -> bool:
        """Rejected over the model's limit, or, when half of that is used, over the limit of its priority."""
        if now_ms >= self._window_ends_ms:
            self._window_ends_ms = now_ms + WINDOW_MS
            self._accepted = 0
            self._accepted_of = [0] * CLASS_COUNT
        number = class_of(request)
        saturated = self._accepted >= SATURATION_THRESHOLD * self._limit
        if self._accepted >= self._limit or (saturated and self._accepted_of[number] >= self._share_limits[number]):
            return False
        self._accepted += 1
        self._accepted_of[number] += 1
        self._engine.append(request)
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The head of the engine's line."""
        return self._engine.popleft() if self._engine else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

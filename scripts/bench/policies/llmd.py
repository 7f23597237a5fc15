"""What does the flow control of llm-d's router do?

llm-d-router 0.8 (pkg/epp/flowcontrol/controller/internal/processor.go and pkg/epp/framework/plugins/flowcontrol), set
up as its guide for many tenants does (llm-d, guides/flow-control): strict priority bands, dispatched from the highest
down; inside a band `round-robin-fairness-policy` over flows, a flow being a tenant at a priority, in the order of their
names; inside a flow `slo-deadline-ordering-policy`, the earliest arrival + start budget first.

- Saturation: `concurrency-detector` with the pool's slots as `maxConcurrency`; while a slot is free nothing is held
  back, and `static-usage-limit-policy` at its 1.0 gates no band.
- Limits: a band holds 1 GB by default and any number of requests, which nothing here reaches. The guide's counts
  (500, 200, 50) are for its pool; `band_limits` takes such ones.
- TTL: `defaultRequestTTL` 60 s of the guide for requests that somebody waits for; the product itself has none, and a
  batch client sends its own.

The guide's bands are 100, 0 and -10, here those of the tiers; batch work is a band below. Negative bands are queued,
not shed, under flow control.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from heapq import heappop, heappush

from qosqueue.policy.terms import TaskType
from scripts.bench.policies.classes import CLASS_COUNT, class_of
from scripts.bench.policies.interface import Pool, Request

REQUEST_TTL_MS = 60_000

_Entry = tuple[int, int, Request]


class _Band:
    """The flows of one priority, and whose turn it is."""

    def __init__(self) -> None:
        self.flows: dict[str, list[_Entry]] = {}  # each a heap by deadline
        self.names: list[str] = []  # of the flows that wait, sorted
        self.last_served = ""
        self.length = 0

    def push(self, name: str, entry: _Entry) -> None:
        """Queue a request in its flow."""
        flow = self.flows.setdefault(name, [])
        if not flow:
            insort(self.names, name)
        heappush(flow, entry)
        self.length += 1

    def pop(self) -> Request | None:
        """The first request of the flow after the one that was served last."""
        if not self.names:
            return None
        index = bisect_right(self.names, self.last_served) % len(self.names)
        name = self.last_served = self.names[index]
        flow = self.flows[name]
        request = heappop(flow)[2]
        if not flow:
            del self.names[index]
        self.length -= 1
        return request


class LlmD:
    """Bands, then flows in turn, then deadlines."""

    def __init__(
        self, pool: Pool, ttl_ms: int | None = REQUEST_TTL_MS, band_limits: Sequence[int | None] | None = None
    ) -> None:
        self._ttl_ms = ttl_ms
        self._limits = band_limits or (None,) * CLASS_COUNT
        self._bands = tuple(_Band() for _ in range(CLASS_COUNT))
        self._submitted = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """Rejected when its band holds as many as it may."""
        number = class_of(request)
        band, limit = self._bands[number], self._limits[number]
        if limit is not None and band.length >= limit:
            return False
        band.push(request.tenant, (request.arrival_ms + request.budget_ms, self._submitted, request))
        self._submitted += 1
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """From the highest band that waits; what has outlived its TTL is dropped on the way."""
        for band in self._bands:
            while (request := band.pop()) is not None:
                if not self._expired(now_ms, request):
                    return request
        return None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

    def _expired(self, now_ms: int, request: Request) -> bool:
        if self._ttl_ms is None or request.task_type is TaskType.BATCH:
            return False
        return now_ms - request.arrival_ms >= self._ttl_ms

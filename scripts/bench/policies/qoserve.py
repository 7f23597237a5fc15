"""What does QoServe's scheduler do with a line in front of slots?

Goel et al., "QoServe: Breaking the Silos of LLM Inference Serving", ASPLOS 2026 (Niyama in its preprint, arXiv
2503.22562), and its released scheduler (microsoft/sarathi-serve, branch niyama_asplos2026, deadline_scheduler.py):

- hybrid priority: the earliest `arrival + SLO + alpha * remaining work` first (eq. 4 and 5). A slot is held for prefill
  and decode, so the remaining work is the predicted service for every request, as for the paper's non-interactive ones;
- alpha is the deployment's to tune: the paper sweeps it for the fewest violations (8 ms a token), and takes an eighth
  of that at low load. `LOADED_ALPHA` is the best of such a sweep here, in ms of deadline for each ms of service;
- eager relegation: what can no longer meet its deadline when its turn comes goes behind all that can;
- tier hints: while higher tiers are about to miss, lower ones are relegated first (section 3.4).

Its chunk sizes and its preemption between prefill chunks live inside an engine step, below a slot. Batch work is its
non-interactive class: the deadline is the end of its window, and it is the first to be relegated.
"""

from __future__ import annotations

from heapq import heappop, heappush

from scripts.bench.policies.classes import CLASS_COUNT, class_of
from scripts.bench.policies.interface import Pool, Request

LOADED_ALPHA = 1.0
LOW_LOAD_DIVISOR = 8

_Entry = tuple[float, int, Request]


class QoServe:
    """One heap of live work for each class, by hybrid priority, and one of relegated work behind them."""

    def __init__(self, pool: Pool, loaded_alpha: float = LOADED_ALPHA) -> None:
        self._loaded_alpha = loaded_alpha
        self._start_gap_ms = pool.mean_service_ms / pool.slots
        self._shortest_budget_ms = min(pool.budgets_ms.values())
        self._live: tuple[list[_Entry], ...] = tuple([] for _ in range(CLASS_COUNT))
        self._relegated: list[_Entry] = []
        self._submitted = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted."""
        # Low load: all that waits would start within the shortest start budget.
        waiting = sum(map(len, self._live))
        loaded = waiting * self._start_gap_ms > self._shortest_budget_ms
        alpha = self._loaded_alpha if loaded else self._loaded_alpha / LOW_LOAD_DIVISOR
        key = _deadline_ms(request) + alpha * request.predicted_ms
        heappush(self._live[class_of(request)], (key, self._submitted, request))
        self._submitted += 1
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The feasible request of the best priority; the relegated only when there is none."""
        while True:
            best = min((heap for heap in self._live if heap), default=None, key=_head)
            if best is None:
                return heappop(self._relegated)[2] if self._relegated else None
            entry = heappop(best)
            if now_ms > _deadline_ms(entry[2]) or self._endangers_higher(now_ms, entry[2]):
                heappush(self._relegated, entry)
                continue
            return entry[2]

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""

    def _endangers_higher(self, now_ms: int, request: Request) -> bool:
        """Whether those of a higher tier that wait would not all start before the deadline of their first."""
        ahead = 0
        for heap in self._live[: class_of(request)]:
            ahead += len(heap)
            if heap and now_ms + ahead * self._start_gap_ms > _deadline_ms(heap[0][2]) >= now_ms:
                return True
        return False


def _deadline_ms(request: Request) -> int:
    return request.arrival_ms + request.budget_ms


def _head(heap: list[_Entry]) -> tuple[float, int]:
    return heap[0][:2]

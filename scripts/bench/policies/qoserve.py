"""What does QoServe's scheduler do with a line in front of slots?

Goel et al., "QoServe: Breaking the Silos of LLM Inference Serving", ASPLOS 2026 (Niyama in its preprint, arXiv
2503.22562), and its released scheduler (microsoft/sarathi-serve, branch niyama_asplos2026: deadline_scheduler.py and
sequence.py):

- hybrid priority: the least `arrival + SLO + alpha * remaining work` first (eq. 4 and 5). A slot is held for prefill
  and decode, so the remaining work is the predicted service, as in the paper for its non-interactive requests;
- alpha is the deployment's to tune. The paper sweeps it for the fewest violations (8 ms a token there) and takes an
  eighth of that at low load. Swept here at mean services of .5 to 8 s, the best alpha moves a request of mean size by
  a tenth of the longest start budget;
- eager relegation: what can no longer meet its deadline when its turn comes goes behind all that can.

The paper also relegates by tier first where an operator hints at it; the released scheduler does not, and in such a
sweep that gained vip 2 points and cost all tiers together 5. Chunk sizes and preemption between prefill chunks live
inside an engine step, below a slot. Batch work is its non-interactive class: its deadline is the end of its window.
"""

from __future__ import annotations

from heapq import heappop, heappush

from qosqueue.policy.terms import TaskType
from scripts.bench.policies.interface import Pool, Request

LOADED_SHIFT_OF_LONGEST_BUDGET = 0.1
LOW_LOAD_DIVISOR = 8

_Entry = tuple[float, int, Request]


class QoServe:
    """One heap of live work by hybrid priority, and one of relegated work behind it."""

    def __init__(self, pool: Pool) -> None:
        # In ms of deadline for each ms of service.
        self._loaded_alpha = LOADED_SHIFT_OF_LONGEST_BUDGET * max(pool.budgets_ms.values()) / pool.mean_service_ms
        self._loaded_from = min(pool.budgets_ms.values()) * pool.slots / pool.mean_service_ms
        self._live: list[_Entry] = []
        self._relegated: list[_Entry] = []
        self._online_waiting = 0
        self._submitted = 0

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted."""
        # Low load: all that wait would start within the shortest start budget.
        loaded = self._online_waiting > self._loaded_from
        alpha = self._loaded_alpha if loaded else self._loaded_alpha / LOW_LOAD_DIVISOR
        heappush(self._live, (_deadline_ms(request) + alpha * request.predicted_ms, self._submitted, request))
        self._submitted += 1
        self._online_waiting += _is_online(request)
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The feasible request of the best priority; a relegated one only when there is none."""
        while self._live:
            entry = heappop(self._live)
            request = entry[2]
            self._online_waiting -= _is_online(request)
            if now_ms <= _deadline_ms(request):
                return request
            heappush(self._relegated, entry)
        return heappop(self._relegated)[2] if self._relegated else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """The rule learns nothing from it."""


def _deadline_ms(request: Request) -> int:
    return request.arrival_ms + request.budget_ms


def _is_online(request: Request) -> bool:
    return request.task_type is not TaskType.BATCH

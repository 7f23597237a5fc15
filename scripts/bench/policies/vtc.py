"""What does the Virtual Token Counter do?

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (arXiv 2401.00588): the counter, with its lift for
a client that returns, weighted for tiers of clients, and with the output's length predicted at the start and corrected
at the end (the paper's VTC with length prediction: the mean of the client's last five outputs). Weights of the paper: 1
a token of input, 2 a token of output. The plain variant charges each output token as it comes, which a rule that hears
only of ends cannot; waiting for the end would be less fair than predicting.

A client is a tenant; its weight is what its contract promises, in percent of the pool, else that of its tier. VTC
knows no classes: batch work of a tenant is one more client, with the weight of the lowest tier.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.classes import TIER_WEIGHT
from scripts.bench.policies.interface import Pool, Request

INPUT_WEIGHT = 1
OUTPUT_WEIGHT = 2
OUTPUTS_REMEMBERED = 5
PERCENT = 100


class _Client:
    """One tenant's counter and line."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.served = 0.0  # virtual tokens: charged tokens / weight
        self.waiting: deque[Request] = deque()
        self.outputs: deque[int] = deque(maxlen=OUTPUTS_REMEMBERED)

    def expected_output(self) -> float:
        """Tokens that its next output is predicted to have; none before its first has ended."""
        return sum(self.outputs) / len(self.outputs) if self.outputs else 0.0


class Vtc:
    """The backlogged client with the least served, weighted tokens goes first; first come, first served inside."""

    def __init__(self, pool: Pool) -> None:
        self._contracts = pool.contracts
        self._clients: dict[tuple[str, bool], _Client] = {}
        # Lazily: an entry counts while its client waits and its counter is still that.
        self._order: list[tuple[float, int, _Client]] = []
        self._pushed = 0
        self._charged: dict[int, float] = {}  # predicted output tokens by request id, until it ends
        self._last_to_leave: _Client | None = None

    def submit(self, now_ms: int, request: Request) -> bool:
        """Always accepted; a client that was away is lifted to the least counter of those that wait."""
        client = self._client(request)
        if not client.waiting:
            floor = self._least() or self._last_to_leave
            if floor is not None:
                client.served = max(client.served, floor.served)
        client.waiting.append(request)
        if len(client.waiting) == 1:
            self._push(client)
        return True

    def pick(self, now_ms: int, free_slots: int) -> Request | None:
        """The oldest request of the client with the least counter."""
        client = self._least()
        if client is None:
            return None
        request = client.waiting.popleft()
        expected = client.expected_output()
        self._charged[request.id] = expected
        self._charge(client, INPUT_WEIGHT * request.prompt_tokens + OUTPUT_WEIGHT * expected)
        if not client.waiting:
            self._last_to_leave = client
        return request

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        """Correct the charge by the output that came."""
        client = self._client(request)
        client.outputs.append(request.output_tokens)
        self._charge(client, OUTPUT_WEIGHT * (request.output_tokens - self._charged.pop(request.id)))

    def _charge(self, client: _Client, tokens: float) -> None:
        client.served += tokens / client.weight
        if client.waiting:
            self._push(client)

    def _push(self, client: _Client) -> None:
        heappush(self._order, (client.served, self._pushed, client))
        self._pushed += 1

    def _least(self) -> _Client | None:
        order = self._order
        while order:
            served, _, client = order[0]
            if client.waiting and client.served == served:
                return client
            heappop(order)
        return None

    def _client(self, request: Request) -> _Client:
        batch = request.task_type is TaskType.BATCH
        key = request.tenant, batch
        client = self._clients.get(key)
        if client is None:
            if batch:
                weight: float = TIER_WEIGHT[Tier.BASIC]
            else:
                contract = self._contracts.get(request.tenant, 0)
                weight = contract * PERCENT if contract > 0 else TIER_WEIGHT[request.tier]
            client = self._clients[key] = _Client(weight)
        return client

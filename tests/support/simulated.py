"""Small requests, pools and rules for tests of the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.interface import Pool, Request
from scripts.bench.sim.loop import NOT_STARTED, Outcome, Server
from scripts.bench.sim.work import Work

BUDGET_MS = 1_000


def request(
    number: int,
    arrival_ms: int,
    service_ms: int,
    *,
    budget_ms: int = BUDGET_MS,
    tenant: str = "tenant",
    tier: Tier = Tier.STANDARD,
    task_type: TaskType = TaskType.ONLINE,
    prompt_tokens: int = 0,
) -> Request:
    """One request; predictions are exact."""
    return Request(
        id=number,
        tenant=tenant,
        organisation=tenant,
        tier=tier,
        task_type=task_type,
        arrival_ms=arrival_ms,
        budget_ms=budget_ms,
        service_ms=service_ms,
        predicted_ms=service_ms,
        prompt_tokens=prompt_tokens,
        output_tokens=service_ms,
    )


def work_of(requests: Sequence[Request], slots: int, *, to_ms: int = 10**9) -> Work:
    """All requests measured."""
    pool = Pool(slots, 1_000, dict.fromkeys(Tier, BUDGET_MS))
    return Work(requests, to_ms, 0, to_ms, pool)


def started_in_budget(outcome: Outcome) -> list[bool]:
    """Of each request, whether it started in budget."""
    return [
        outcome.started_ms[one.id] != NOT_STARTED and outcome.started_ms[one.id] - one.arrival_ms <= one.budget_ms
        for one in outcome.requests
    ]


class Watched:
    """A server that fails if more requests run than it has slots."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._slots = server.free
        self.running: set[int] = set()
        self.most = 0

    @property
    def free(self) -> int:
        """The server's own."""
        return self._server.free

    @property
    def next_end_ms(self) -> int:
        """The server's own."""
        return self._server.next_end_ms

    def start(self, now_ms: int, request: Request) -> None:
        """The server's own, with a count."""
        assert request.id not in self.running
        self.running.add(request.id)
        self.most = max(self.most, len(self.running))
        assert len(self.running) <= self._slots
        self._server.start(now_ms, request)
        assert self._server.free == self._slots - len(self.running)

    def ended(self, now_ms: int) -> Iterable[Request]:
        """The server's own, with a count."""
        over = list(self._server.ended(now_ms))
        self.running -= {one.id for one in over}
        assert self._server.free == self._slots - len(self.running)
        return over

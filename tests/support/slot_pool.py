"""How does a test drive a scheduling rule over a few slots, and hold it to what every rule owes?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.interface import Policy, Pool, Request, Wait

BUDGETS_MS = {Tier.VIP: 2_000, Tier.STANDARD: 5_000, Tier.BASIC: 10_000}
BATCH_WINDOW_MS = 3_600_000
MEAN_SERVICE_MS = 1_000


def pool(slots: int, contracts: dict[str, float] | None = None) -> Pool:
    """A pool with the start budgets of these tests."""
    return Pool(slots, MEAN_SERVICE_MS, BUDGETS_MS, contracts or {})


def request(
    number: int,
    *,
    tier: Tier = Tier.BASIC,
    tenant: str = "",
    task_type: TaskType = TaskType.ONLINE,
    arrival_ms: int = 0,
    service_ms: int = MEAN_SERVICE_MS,
    predicted_ms: int | None = None,
    prompt_tokens: int = 100,
    output_tokens: int = 100,
) -> Request:
    """A request in which only what a test is about is given; the tenant is the tier's own."""
    batch = task_type is TaskType.BATCH
    return Request(
        id=number,
        tenant=tenant or tier.value,
        organisation="org",
        tier=tier,
        task_type=task_type,
        arrival_ms=arrival_ms,
        budget_ms=BATCH_WINDOW_MS if batch else BUDGETS_MS[tier],
        service_ms=service_ms,
        predicted_ms=service_ms if predicted_ms is None else predicted_ms,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
    )


@dataclass(frozen=True)
class Start:
    """One pick: when, what, and which accepted requests had not started (the picked one among them)."""

    at_ms: int
    request: Request
    waiting: Sequence[Request]


@dataclass
class Served:
    """What became of a list of requests."""

    starts: list[Start] = field(default_factory=list)
    rejected: list[Request] = field(default_factory=list)
    given_up: list[Request] = field(default_factory=list)
    waits: int = 0

    @property
    def order(self) -> list[int]:
        """The ids in the order of their starts."""
        return [start.request.id for start in self.starts]


def serve(
    policy: Policy,
    requests: Sequence[Request],
    slots: int,
    *,
    may_give_up: Callable[[int, Request], bool] = lambda now_ms, request: False,
) -> Served:
    """Run requests, in the order of their arrivals, to the end; AssertionError where the rule breaks its contract.

    None from a pick while something accepted has not started is allowed only if `may_give_up(now_ms, it)`.
    """
    assert all(before.arrival_ms <= after.arrival_ms for before, after in pairwise(requests))
    served = Served()
    waiting: dict[int, Request] = {}
    running: list[tuple[int, int, Request]] = []
    arrived = 0
    woken_ms: int | None = None
    while True:
        times = [requests[arrived].arrival_ms] if arrived < len(requests) else []
        times += [running[0][0]] if running else []
        times += [woken_ms] if woken_ms is not None else []
        if not times:
            break
        now_ms, woken_ms = min(times), None
        while running and running[0][0] <= now_ms:
            _, _, ended = heappop(running)
            policy.settle(now_ms, ended, ended.service_ms)
        while arrived < len(requests) and requests[arrived].arrival_ms <= now_ms:
            arriving = requests[arrived]
            arrived += 1
            if policy.submit(now_ms, arriving):
                waiting[arriving.id] = arriving
            else:
                served.rejected.append(arriving)
        while len(running) < slots:
            picked = policy.pick(now_ms, slots - len(running))
            if isinstance(picked, Wait):
                assert waiting, "waits for nothing"
                assert picked.retry_after_ms > 0
                served.waits += 1
                woken_ms = now_ms + picked.retry_after_ms
                break
            if picked is None:
                _must_be_given_up(waiting.values(), now_ms, may_give_up)
                break
            assert waiting.get(picked.id) is picked, "started twice, given up before, or never accepted"
            served.starts.append(Start(now_ms, picked, tuple(waiting.values())))
            del waiting[picked.id]
            heappush(running, (now_ms + picked.service_ms, picked.id, picked))
    served.given_up = list(waiting.values())
    return served


def _must_be_given_up(left: Iterable[Request], now_ms: int, may_give_up: Callable[[int, Request], bool]) -> None:
    kept = [each.id for each in left if not may_give_up(now_ms, each)]
    assert not kept, f"a free slot, and {kept} wait"

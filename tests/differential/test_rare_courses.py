"""Are scripts and reference equal where chance hardly ever leads? Courses that random histories seldom take."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.policy import order
from qosqueue.policy.reference.limits import tenant_limit
from qosqueue.policy.reference.message import Delivery, Nothing
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support import snapshots
from tests.support.messages import submission
from tests.support.ordering import BUDGETS, NOW

GROUP = "rare"
PLACES = [("vip.light", "m")]


class Both:
    """Each command goes to the scripts and to the reference, at the same instant; answers and states must be equal."""

    def __init__(self, client: redis.Redis) -> None:
        client.flushdb()
        self._client = client
        self.scripts, self.reference = Scripts(client, GROUP), ReferenceQueue()
        for queue in (self.scripts, self.reference):
            queue.pool("m", order.pool_terms(4, 1_000, BUDGETS))

    def do(self, command: str, now: int, **arguments: Any) -> Any:
        ours = getattr(self.scripts, command)(**arguments, now_ms=now)
        assert ours == getattr(self.reference, command)(now, **arguments), command
        assert snapshots.of_redis(self._client, GROUP) == snapshots.of_reference(self.reference)
        return ours

    def submit(self, now: int, tag: str, **changes: Any) -> None:
        assert self.do("submit", now, **submission(tag, **changes)) == 1

    def started(self, now: int) -> str | None:
        found: Delivery | Nothing = self.do("dispatch", now, lease_ms=10**9, holder="w", places=PLACES)
        return found.tag if isinstance(found, Delivery) else None


@pytest.fixture
def both(redis_client: redis.Redis) -> Both:
    return Both(redis_client)


def test_more_capped_tenants_than_a_pick_passes_over(both: Both) -> None:
    both.submit(NOW, "late", priority=9, budget_ms=10)
    both.submit(NOW, "batch", batch=True, budget_ms=60_000)
    for number in range(order.PASSED_OVER_PER_PICK + 2):
        both.do("limit", NOW, name=tenant_limit(f"c{number}"), most=0)
        both.submit(NOW, f"c{number:02}", tenant=f"c{number}")
    both.submit(NOW + 5, "online")
    assert [both.started(NOW + 20) for _ in range(4)] == [None, "online", "late", "batch"]


def test_a_huge_prediction_is_served_on_credit(both: Both) -> None:
    both.submit(NOW, "huge", priority=9, budget_ms=10, cost_ms=order.LARGEST_COST_MS)
    both.submit(NOW, "other", priority=9, budget_ms=10)
    for number in range(3):
        both.submit(NOW + 20, f"fresh{number}", cost_ms=1_000)
    assert [both.started(NOW + 20) for _ in range(4)] == ["fresh0", "huge", "fresh1", "fresh2"]
    assert both.reference.standing.credit["m"] > -order.LARGEST_COST_MS


def test_what_was_claimed_before_a_late_request_is_not_asked_again(both: Both) -> None:
    """A charge that is asked for while it is late is decided when it stands by its key again."""
    tasks = [f"t{number}" for number in range(12)]
    for tag in tasks:
        both.submit(NOW, tag, tenant="a", organisation="a", priority=9, budget_ms=1_000, cost_ms=9_000)
    assert len(both.do("age", NOW + 2_000, limit=99).relegated) == len(tasks)
    both.do("rerank", NOW + 2_000, task="task-t11", charge=True)
    both.do("rerank", NOW + 2_000, task="task-t11", budget_ms=100_000)
    assert (both.reference.messages["t11"].penalty or 0) > 0, "for what stood before it when it came"


def test_an_older_message_of_a_task_dies_and_the_newer_one_goes_on(both: Both) -> None:
    both.submit(NOW, "old", task="x")
    assert both.started(NOW) == "old"
    both.submit(NOW + 1, "new", task="x")
    assert both.do("settle", NOW + 2, tag="old", fence=1, outcome="dead") == 1
    assert both.started(NOW + 3) == "new"
    assert both.reference.tasks == {"x": "new"}, "the task's id belongs to its newest message"

"""Does a scene in real time run on each way, with the instants of the scene, and leave no process behind?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from qosqueue.errors import QosqueueError
from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.policies.interface import Pool, Request
from scripts.bench.real import play as subject
from scripts.bench.real.ways import PRIORITIES, QOSQUEUE, WAYS, message
from scripts.bench.sim.loop import NOT_STARTED
from scripts.bench.sim.tenants import BUDGETS_MS
from scripts.bench.sim.work import Work

SPEED = 4.0


def request(number: int, tier: Tier, arrival_ms: int, *, task_type: TaskType = TaskType.ONLINE) -> Request:
    return Request(
        id=number,
        tenant=f"{tier}-1",
        organisation=f"{tier}-1",
        tier=tier,
        task_type=task_type,
        arrival_ms=arrival_ms,
        budget_ms=BUDGETS_MS[tier],
        service_ms=800,
        predicted_ms=800,
        prompt_tokens=100,
        output_tokens=100,
    )


def work() -> Work:
    """Two slots; eight basic requests at once, then a vip one behind them."""
    requests = [request(number, Tier.BASIC, 0) for number in range(8)]
    requests.append(request(8, Tier.VIP, 400))
    return Work(requests, 4_000, 0, 4_000, Pool(2, 800, BUDGETS_MS))


@pytest.mark.parametrize("way", WAYS)
def test_every_request_starts_and_holds_its_slot(way: str) -> None:
    played = subject.play(way, work(), SPEED)
    outcome = played.outcome
    assert len(played.late_ms) == 9
    assert NOT_STARTED not in outcome.started_ms
    for one in outcome.requests:
        assert outcome.started_ms[one.id] >= one.arrival_ms
        assert outcome.ended_ms[one.id] - outcome.started_ms[one.id] >= one.service_ms
    before_vip = sum(start < outcome.started_ms[8] for start in outcome.started_ms)
    # First come, first served starts it last; the others when the next slot falls free.
    assert before_vip == 8 if way == "fifo" else before_vip <= 4


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "order_of", lambda way: "qos")
    with pytest.raises(QosqueueError, match=r"failed \(exit code 1\)"):
        subject.play("nothing", work(), SPEED)


def test_batch_work_is_the_lowest_of_stock_priorities() -> None:
    batch = replace(request(1, Tier.VIP, 0, task_type=TaskType.BATCH))
    assert message(PRIORITIES, batch, 1)["priority"] == 9
    assert message(PRIORITIES, request(1, Tier.BASIC, 0), 9)["priority"] == 7
    assert message(QOSQUEUE, batch, 1)["headers"]["qos"]["batch"] is True

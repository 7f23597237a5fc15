"""Is nothing of what ended lost, and nothing counted twice, while SQL is away?"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import pytest

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.service.finished import FinishedRequests
from qosqueue.service.requests import new_row
from qosqueue.service.unrecorded import Ended, Unrecorded
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision, DecisionKind, Decisions
from qosqueue.store.job_record import JobRecord
from qosqueue.store.usage import UsageRecord
from tests.support.eventually import eventually
from tests.support.road import Road


class FlakyRecord(JobRecord):
    """A record whose database is away while `away` is set."""

    away = True

    def insert(self, rows: list[dict[str, Any]], told: Any = None) -> None:
        if self.away:
            raise StoreUnavailable("away")
        super().insert(rows, told)


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def ended(road: Road, number: int, **columns: Any) -> Ended:
    profile = road.call().profile
    used = {
        "status": JobStatus.SUCCEEDED,
        "finished_ms": now_ms(),
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "gpu_ms": 5,
    }
    row = new_row(f"job_{number:024x}", road.tenant, road.request(), profile, **(used | columns))
    return Ended(row, [Decision(DecisionKind.DISPATCHED, 7, {"fence": 1})])


def used(road: Road) -> tuple[int, int, int, int]:
    (usage,) = UsageRecord(road.services.store).list(tenant_id=road.tenant.id)
    return usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.gpu_ms


def test_what_ended_while_sql_was_away_outlives_its_web_process(modelled: Road) -> None:
    record = FlakyRecord(modelled.services.store)
    unrecorded = Unrecorded(modelled.services.scripts, record)
    finished = FinishedRequests(record, unrecorded.keep)
    requests = [ended(modelled, number) for number in range(5)]
    for each in requests:
        finished.add(each.row, [partial(copy, decision) for decision in each.decided])
    finished.close()
    ids = [each.row["id"] for each in requests]
    with pytest.raises(StoreUnavailable):
        unrecorded.record(100)
    record.away = False
    assert sorted(unrecorded.record(3) + unrecorded.record(100)) == ids
    assert unrecorded.record(100) == []
    assert all(record.status(job_id) is JobStatus.SUCCEEDED for job_id in ids)
    assert used(modelled) == (5, 15, 20, 25)
    assert Decisions(modelled.services.store).of(ids[0]) == requests[0].decided


def test_the_watchdog_writes_it_down(modelled: Road) -> None:
    unrecorded = Unrecorded(modelled.services.scripts, JobRecord(modelled.services.store))
    assert unrecorded.keep([ended(modelled, 1)])
    assert modelled.services.watchdog.reconcile().outcome["recorded"] == [f"job_{1:024x}"]
    assert used(modelled) == (1, 3, 4, 5)


def test_a_sweep_that_died_before_it_took_them_off_the_list_counts_nothing_twice(modelled: Road) -> None:
    unrecorded = Unrecorded(modelled.services.scripts, JobRecord(modelled.services.store))
    first, second = ended(modelled, 1), ended(modelled, 2)
    assert unrecorded.keep([first])
    assert len(unrecorded.record(9)) == 1
    assert unrecorded.keep([first, second])
    assert len(unrecorded.record(9)) == 2
    assert used(modelled) == (2, 6, 8, 10)


def test_a_row_that_sql_refuses_holds_up_no_other(modelled: Road) -> None:
    record = JobRecord(modelled.services.store)
    unrecorded = Unrecorded(modelled.services.scripts, record)
    assert unrecorded.keep([ended(modelled, 1, tenant_id="ten_nobody"), ended(modelled, 2)])
    unrecorded.record(9)
    assert [record.status(f"job_{number:024x}") for number in (1, 2)] == [None, JobStatus.SUCCEEDED]
    assert unrecorded.record(9) == []


def test_with_both_away_rows_wait_in_memory(modelled: Road) -> None:
    record = FlakyRecord(modelled.services.store)
    unrecorded = Unrecorded(modelled.services.scripts, record)
    finished = FinishedRequests(record, unrecorded.keep)
    last = ended(modelled, 1)
    modelled.services.redis.config_set("maxmemory", 1)
    try:
        assert not unrecorded.keep([last])
        finished.add(last.row, [partial(copy, decision) for decision in last.decided])
        record.away = False
        eventually(lambda: record.status(last.row["id"]), within_s=5)
    finally:
        modelled.services.redis.config_set("maxmemory", 0)
        finished.close()
    assert used(modelled) == (1, 3, 4, 5)


def test_a_client_that_left_is_charged_for_the_time_until_then(modelled: Road) -> None:
    call = modelled.call()
    call._row |= {"started_ms": now_ms() - 1_000}
    call.close()
    eventually(lambda: modelled.services.jobs.list(None, 9), within_s=5)
    job = modelled.job(call)
    assert job.status is JobStatus.CANCELLED
    assert job.gpu_ms is not None
    assert used(modelled) == (1, 0, 0, job.gpu_ms)
    assert job.gpu_ms >= 1_000

"""Does a batch lose or double a line when a process dies, a broker goes away, or a tenant takes a job back?"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update

from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.batch import BatchStatus, LineState
from qosqueue.policy.lifecycle import JobEvent
from qosqueue.service import batch_feed, line_jobs
from qosqueue.service.batch_output import BatchOutput
from qosqueue.store.batch_record import BatchRecord
from qosqueue.store.bulk_tables import BatchLineRow, BatchRow
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from qosqueue.store.tables import JobRow
from tests.support.batch_world import RUN_S, begin, chats, feed, lines_of, reconcile, serve
from tests.support.road import Road


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


class Killed(BaseException):
    """The process ends here, as with SIGKILL: nothing after this line runs."""


MOMENTS = [
    (BatchRecord, "read_up_to"),
    (BatchRecord, "count"),
    (JobRecord, "queued"),
    (BatchOutput, "_put_on_record"),
    (BatchRecord, "release"),
]


@pytest.mark.parametrize(("where", "name"), MOMENTS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_feed_that_is_killed_anywhere_loses_and_doubles_nothing(
    modelled: Road, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, after: bool
) -> None:
    """Killed at every step of that kind, once each; the next run goes on."""
    monkeypatch.setattr(batch_feed, "CHECK_AT_ONCE", 4)
    monkeypatch.setattr(line_jobs, "FEED_AT_ONCE", 3)
    real = getattr(where, name)
    kills = {"next": 0, "seen": 0, "done": 0}

    def dies(*args: Any, **kwargs: Any) -> Any:
        kills["seen"] += 1
        if kills["seen"] <= kills["next"]:
            return real(*args, **kwargs)
        kills["next"] += 1
        kills["done"] += 1
        if after:
            real(*args, **kwargs)
        raise Killed

    batch = begin(modelled, [*chats(9), b"{"])
    monkeypatch.setattr(where, name, dies)
    served: list[str] = []
    for _ in range(200):
        kills["seen"] = 0
        try:
            modelled.services.batch_feed.run(RUN_S)
            reconcile(modelled)
        except Killed:
            with modelled.services.store.session() as session:  # its hold ends by itself, after a while
                session.execute(update(BatchRow).values(holder=None, held_until_ms=0))
        served += serve(modelled)
        found = modelled.services.batches.get(modelled.tenant.id, batch.id)
        if found.status is BatchStatus.COMPLETED:
            break
    assert kills["done"] > 0
    assert (found.status, found.total, found.completed, found.failed) == (BatchStatus.COMPLETED, 10, 9, 1)
    assert len(served) == len(set(served)) == 9
    rows = lines_of(modelled, found.output_file_id)
    assert sorted(rows) == sorted(f"c{number}" for number in range(9))
    with modelled.services.store.session() as session:
        assert session.scalar(select(func.count()).select_from(JobRow)) == 9


def test_one_process_holds_a_batch_and_a_late_one_writes_nothing(modelled: Road) -> None:
    batch = begin(modelled, chats(2))
    record = BatchRecord(modelled.services.store)
    assert record.hold(batch.id, "first")
    assert not record.hold(batch.id, "second")
    assert feed(modelled, batch).status is BatchStatus.VALIDATING
    record.release("first")
    assert feed(modelled, batch).status is BatchStatus.IN_PROGRESS
    assert record.hold(batch.id, "second")
    with pytest.raises(Exception, match=batch.id), record.holding(batch.id, "first"):
        raise AssertionError("a block that must not begin")


def test_a_broker_that_is_away_holds_up_and_loses_nothing(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    from qosqueue.broker.publish import Publisher

    publish, calls = Publisher.publish, [0]

    def flaky(self: Publisher, *args: Any, **kwargs: Any) -> bool:
        calls[0] += 1
        if calls[0] == 2:
            raise BrokerUnavailable("gone")
        return publish(self, *args, **kwargs)

    monkeypatch.setattr(Publisher, "publish", flaky)
    batch = begin(modelled, chats(3))
    with pytest.raises(BrokerUnavailable):
        modelled.services.batch_feed.run(RUN_S)
    assert modelled.depth() == 1
    feed(modelled, batch)
    reconcile(modelled)
    assert modelled.depth() == 3
    assert len(serve(modelled)) == 3
    assert feed(modelled, batch).completed == 3


def test_lines_of_old_batches_are_forgotten(modelled: Road) -> None:
    batch = feed(modelled, begin(modelled, chats(3)))
    forget = modelled.services.batch_feed.forget_lines
    assert forget(now_ms() + 1_000, 100) == 0, "it has not ended"
    serve(modelled)
    feed(modelled, batch)
    assert forget(now_ms() - 60_000, 100) == 0
    assert [forget(now_ms() + 1_000, 2) for _ in range(3)] == [2, 1, 0]
    with modelled.services.store.session() as session:
        assert session.scalar(select(func.count()).select_from(BatchLineRow)) == 0


def test_a_job_that_its_tenant_takes_back_is_told_as_cancelled(modelled: Road) -> None:
    batch = feed(modelled, begin(modelled, chats(2)))
    job = next(each for each in modelled.services.jobs.list(modelled.tenant.id, 5) if each.details["custom_id"] == "c0")
    modelled.services.jobs.cancel(modelled.tenant.id, job.id)
    serve(modelled)
    done = feed(modelled, batch)
    assert (done.status, done.completed, done.failed) == (BatchStatus.COMPLETED, 1, 1)
    (row,) = lines_of(modelled, done.error_file_id).values()
    assert row["error"]["code"] == "batch_cancelled"


def test_a_disabled_tenants_lines_wait(modelled: Road) -> None:
    modelled.services.accounts.update_tenant(modelled.tenant.id, actor="test", enabled=False)
    batch = feed(modelled, begin(modelled, chats(2)))
    assert (batch.status, modelled.depth()) == (BatchStatus.IN_PROGRESS, 0)
    assert modelled.services.jobs.list(modelled.tenant.id, 5) == []


def test_events_that_the_job_record_refuses_change_no_line(modelled: Road) -> None:
    """A late word of a worker after a job's end: its line was counted once, and stays so."""
    batch = feed(modelled, begin(modelled, chats(1)))
    (job,) = modelled.services.jobs.list(modelled.tenant.id, 5)
    serve(modelled)
    done = feed(modelled, batch)
    assert not JobRecord(modelled.services.store).move(job.id, JobEvent.ERRORED, finished_ms=1)
    assert feed(modelled, batch) == done
    with modelled.services.store.session() as session:
        assert session.scalar(select(BatchLineRow.state)) == LineState.SUCCEEDED

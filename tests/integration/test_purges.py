"""Does a purge end all that waits in a lane, for good, and does everybody concerned hear of it?"""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import redis
from sqlalchemy import select
from typer.testing import CliRunner

from qosqueue.broker import outbox
from qosqueue.broker.library import function
from qosqueue.cli import app
from qosqueue.errors import BrokerUnavailable, InvalidField
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.terms import TaskType
from qosqueue.service import purges
from qosqueue.service.online import Failed, Started
from qosqueue.service.purges import Purged
from qosqueue.store.bulk_tables import WebhookDeliveryRow
from qosqueue.store.records import AuditEntry, Job
from tests.support.batch_world import begin, chats, feed, lines_of, reconcile
from tests.support.messages import submission
from tests.support.road import Road

LANE = "vip.light"
PLACES = [(LANE, "sim")]


@pytest.fixture
def modelled(road: Road, monkeypatch: pytest.MonkeyPatch) -> Road:
    """A road with a model, purged in slices of two."""
    road.model()
    monkeypatch.setattr(purges, "AT_ONCE", 2)
    return road


def purge(road: Road, lane: str = LANE, why: str = "a flood") -> list[Purged]:
    return list(road.services.purges.purge(lane, actor="user:alice", why=why))


def pick(road: Road) -> Delivery | None:
    found = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    return found if isinstance(found, Delivery) else None


def audited(road: Road) -> list[AuditEntry]:
    return [entry for entry in road.services.audit.list() if entry.action == "queue.purge"]


def holds(road: Road) -> set[str]:
    client: Any = road.services.redis
    return {task.decode() for task in client.zrange(f"{road.services.scripts.key}:holds", 0, -1)}


def test_every_waiting_job_is_cancelled_and_told_who_purged_it_and_comes_back_with_no_reconciler(
    modelled: Road,
) -> None:
    jobs = [modelled.submit(), modelled.submit(task_type=TaskType.BATCH), *(modelled.submit() for _ in range(3))]
    running = pick(modelled)
    assert running is not None
    assert running.task == jobs[0].id
    assert modelled.services.attempts.begin(running.task, running.fence, "w") is not None
    told = purge(modelled)
    assert told == [Purged(LANE, 0, 4), Purged(LANE, 2, 2), Purged(LANE, 4, 0)]
    for job in jobs[1:]:
        row = modelled.job(job)
        assert (row.status, row.finished_ms is not None) == (JobStatus.CANCELLED, True)
        assert row.error is not None
        assert (row.error["code"], row.error["by"]) == ("purged", "user:alice")
        assert row.error["message"] == "An operator ended all that waited in lane vip.light: a flood."
    assert modelled.job(jobs[0]).status is JobStatus.RUNNING
    assert holds(modelled) == {jobs[0].id}, "what they held is given back"
    reconcile(modelled)
    assert modelled.depth() == 0
    assert [(entry.actor, entry.subject, entry.after) for entry in audited(modelled)] == [
        ("user:alice", LANE, {"requests": 2, "jobs": 2, "why": "a flood"})
    ] * 2


def test_a_purge_leaves_other_lanes_and_what_comes_meanwhile(modelled: Road) -> None:
    modelled.submit()
    slices = modelled.services.purges.purge(LANE, actor="test")
    assert next(slices) == Purged(LANE, 0, 1)
    late = modelled.submit()
    assert list(slices) == [Purged(LANE, 1, 0)]
    assert modelled.job(late).status is JobStatus.QUEUED
    assert purge(modelled, "basic.light") == [Purged("basic.light", 0, 0)]
    assert modelled.depth() == 1
    assert len(audited(modelled)) == 1


def test_explain_and_the_tenant_are_told_why_and_not_by_whom(modelled: Road) -> None:
    job = modelled.submit()
    purge(modelled)
    told = modelled.services.explanations.of_tenant(modelled.tenant.id, job.id)
    assert told.text.endswith("An operator ended all that waited in lane vip.light: a flood.")
    assert "alice" not in told.text


def test_a_waiting_client_gets_an_answer_and_its_row_says_why(modelled: Road) -> None:
    call = modelled.call()
    purge(modelled)
    events = list(call.events(idle_s=5))
    call.close()
    assert isinstance(events[-1], Failed)
    assert (events[-1].error["status"], events[-1].error["code"]) == (503, "purged")
    modelled.services.online.close()
    row = modelled.job(call)
    assert row.error is not None
    assert (row.status, row.error["code"]) == (JobStatus.FAILED, "purged")
    assert holds(modelled) == set()


def test_the_clients_of_a_slice_are_told_in_one_write(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LINGER_S", 60)  # nothing goes by itself
    calls = [modelled.call(), modelled.call()]
    scripts, writes = modelled.services.scripts, []
    run = scripts.run

    def counted(commands: Any) -> list[Any]:
        writes.extend([len(commands)] if any(function("reply") in command for command in commands) else [])
        return run(commands)

    monkeypatch.setattr(scripts, "run", counted)
    purge(modelled)
    assert len(writes) == 1
    for call in calls:
        last = list(call.events(idle_s=5))[-1]
        call.close()
        assert isinstance(last, Failed)
        assert last.error["code"] == "purged"


def test_a_client_that_cannot_be_told_is_no_success(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    call = modelled.call()
    scripts = modelled.services.scripts
    run = scripts.run

    def away(commands: Any) -> list[Any]:
        if any(function("reply") in command for command in commands):
            raise redis.ConnectionError("away")
        return run(commands)

    monkeypatch.setattr(scripts, "run", away)
    with pytest.raises(BrokerUnavailable, match="purge again to go on"):
        purge(modelled)
    call.close()


def test_what_begins_in_the_same_instant_is_told_to_stop_and_its_client_hears_of_it(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, job = modelled.call(), modelled.submit()
    services, began = modelled.services, []
    read = services.purges._read

    def too_late(tags: list[str]) -> Any:
        found = read(tags)
        began.extend([pick(modelled), pick(modelled)])
        return found

    monkeypatch.setattr(services.purges, "_read", too_late)
    assert purge(modelled)[-1] == Purged(LANE, 2, 0)
    assert sorted(each.task for each in began) == sorted([call.id, job.id])
    leases = [(each.tag, each.fence) for each in began]
    assert services.scripts.renew(lease_ms=60_000, leases=leases) == [2, 2], (
        "their holders hear that they are cancelled"
    )
    events = list(call.events(idle_s=5))
    call.close()
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Started) for event in events)
    assert modelled.job(job).status is JobStatus.CANCELLED


def test_a_purge_that_loses_the_broker_has_ended_what_it_wrote_down(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [modelled.submit() for _ in range(3)]

    def away(*_: Any) -> Any:
        raise BrokerUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(modelled.services.purges, "_withdraw", away)
        with pytest.raises(BrokerUnavailable):
            purge(modelled)
    statuses = [modelled.job(job).status for job in jobs]
    assert statuses == [JobStatus.CANCELLED, JobStatus.CANCELLED, JobStatus.QUEUED]
    assert purge(modelled)[-1] == Purged(LANE, 3, 0)
    assert modelled.depth() == 0
    assert modelled.job(jobs[2]).status is JobStatus.CANCELLED


def test_an_orphan_in_the_lane_hides_nothing_behind_it(modelled: Road) -> None:
    first, second = modelled.submit(), modelled.submit()
    client: Any = modelled.services.redis
    key = modelled.services.scripts.key
    client.zadd(f"{key}:arrivals:{LANE}", {"orphan-1": 1, "orphan-2": 2})
    assert purge(modelled) == [Purged(LANE, 0, 4), Purged(LANE, 0, 2), Purged(LANE, 2, 0)]
    assert {modelled.job(job).status for job in (first, second)} == {JobStatus.CANCELLED}


def test_what_is_no_request_of_ours_goes_without_a_word(modelled: Road) -> None:
    for tag, payload in (("unreadable", "{"), ("another", '{"headers": {}}')):
        modelled.services.scripts.submit(**submission(tag, lane=LANE, payload=payload))
    job = modelled.submit()
    assert purge(modelled)[-1] == Purged(LANE, 3, 0)
    assert modelled.job(job).status is JobStatus.CANCELLED


def test_webhooks_and_lines_of_batches_hear_of_it(modelled: Road) -> None:
    services = modelled.services
    asked = ["response.cancelled"]
    services.webhooks.add(modelled.tenant.id, name="h", url="https://example.com/", event_types=asked, actor="test")
    job = modelled.submit(endpoint="/v1/responses")
    batch = feed(modelled, begin(modelled, chats(3)))
    assert purge(modelled)[-1].ended == 4
    assert services.webhook_events.collect(9) == 1
    with services.store.session() as session:
        (delivery,) = session.scalars(select(WebhookDeliveryRow))
    assert json.loads(delivery.body)["data"]["id"].removeprefix("resp_") in job.id
    batch = feed(modelled, batch)
    batch = feed(modelled, batch)
    assert batch.status.value == "completed"
    errors = lines_of(modelled, batch.error_file_id)
    assert len(errors) == 3


@pytest.mark.parametrize(
    ("lane", "why", "field"), [("system", "", "lane"), ("gold.light", "", "lane"), (LANE, "x" * 201, "why")]
)
def test_only_lanes_of_requests_are_purged(modelled: Road, lane: str, why: str, field: str) -> None:
    with pytest.raises(InvalidField) as raised:
        modelled.services.purges.purge(lane, actor="test", why=why)
    assert raised.value.field == field


def command(road: Road, monkeypatch: pytest.MonkeyPatch, words: str, typed: str = "") -> Any:
    monkeypatch.setenv("QOSQUEUE_HOME", str(road.settings.home))
    monkeypatch.setenv("QOSQUEUE_REDIS_URL", str(road.settings.redis_url))
    return CliRunner().invoke(app, shlex.split(words), input=typed)


def test_the_command_asks_for_the_name_of_the_lane_and_tells_how_far_it_is(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = [modelled.submit() for _ in range(3)]
    refused = command(modelled, monkeypatch, f"queue purge {LANE}", "basic.light\n")
    assert refused.exit_code == 2
    assert modelled.depth() == 3
    done = command(modelled, monkeypatch, f"queue purge {LANE} --why 'a flood' --json", f"{LANE}\n")
    assert done.exit_code == 0, done.output
    # What was typed is echoed there, too.
    assert json.loads(done.stdout.splitlines()[-1]) == {"lane": LANE, "ended": 3}
    assert f"{LANE}: 2 ended, 1 to go" in done.stderr
    assert {modelled.job(job).status for job in jobs} == {JobStatus.CANCELLED}
    assert command(modelled, monkeypatch, f"queue purge {LANE} --yes").stdout == "ended: 0\n"

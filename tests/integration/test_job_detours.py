"""Does a job that its model has failed for good get its answer elsewhere, once, and is it charged once?

Real workers; the engines are simulated, and so are their faults.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from qosqueue.policy.batch import BatchStatus
from qosqueue.policy.breaker import model_breaker
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import RoadStep, TaskType
from qosqueue.service.answers import RESPONSES
from qosqueue.service.job_detours import OtherWay
from qosqueue.service.online import Detoured, Failed
from qosqueue.service.reconciler import Reconciler
from qosqueue.service.spent_today import SpentToday
from qosqueue.store.batch_record import Batch
from qosqueue.store.decisions import DecisionKind
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job
from qosqueue_web.app import create_app
from tests.support.bulk import CHAT_URL, jsonl, line
from tests.support.eventually import eventually
from tests.support.faulty import STEPS, MakeFaulty, call, holds
from tests.support.road import Road

PLACES = [("vip.light", "sim")]


def ended(road: Road, job: Job) -> Job:
    return road.services.jobs.wait(road.tenant.id, job.id, 30)


def kinds(road: Road, job: Job) -> list[DecisionKind]:
    return [decision.kind for decision in road.services.explanations.of_tenant(road.tenant.id, job.id).decisions]


def used(road: Road) -> list[tuple[str, int]]:
    return [(each.model, each.requests) for each in road.services.usage.list()]


def waiting(road: Road) -> tuple[Job, OtherWay, Delivery]:
    """A job whose last attempt runs here and is about to be given up, and its other way."""
    job = road.submit()
    delivery = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(delivery, Delivery)
    assert road.services.attempts.begin(job.id, delivery.fence, "w") is not None
    way = road.services.job_detours.find(job.id, delivery.fence)
    assert way is not None
    return job, way, delivery


def settle(road: Road, delivery: Delivery) -> int:
    return road.services.scripts.settle(tag=delivery.tag, fence=delivery.fence, outcome="void")


@pytest.mark.parametrize(("fault", "task_type"), [("fails", TaskType.ASYNC), ("hangs", TaskType.BATCH)])
def test_the_fallback_answers_a_job_whose_model_has_failed_all_its_attempts(
    faulty: MakeFaulty, fault: str, task_type: TaskType
) -> None:
    road = faulty(fault=fault)
    road.services.accounts.update_tenant("acme", actor="test", tokens_per_day=1_000, max_in_flight=1)
    tenant = road.services.accounts.get_tenant("acme")
    road.worker("w")
    submitted = road.services.jobs.submit(tenant, road.request(task_type))
    assert not isinstance(submitted, Refusal)
    job = ended(road, submitted)
    assert (job.status, job.model, job.details["detours"]) == (JobStatus.SUCCEEDED, "spare", ["fallback;from=sim"])
    assert (job.fence, job.expires_ms) == (4, submitted.expires_ms), "three attempts at one model, one at the other"
    assert job.result is not None
    assert job.result["model"] == "spare"
    assert kinds(road, job) == [
        DecisionKind.ADMITTED,
        *[DecisionKind.DISPATCHED, DecisionKind.RETRIED] * 2,
        *[DecisionKind.DISPATCHED, DecisionKind.FELL_BACK, DecisionKind.ADMITTED, DecisionKind.DISPATCHED],
    ]
    assert used(road) == [("spare", 1)]
    eventually(lambda: holds(road) == 0, within_s=5)
    spent = (job.prompt_tokens or 0) + (job.completion_tokens or 0)
    charged: Any = road.services.redis.get(f"{road.services.scripts.key}:used:day_tokens:t:{tenant.id}")
    assert int(charged.split(b":")[0]) == spent


def test_a_line_of_a_batch_and_a_response_in_the_background_fall_back_too(faulty: MakeFaulty) -> None:
    road = faulty(fault="fails")
    services = road.services
    services.accounts.update_tenant("acme", actor="test", road=["fallback"])
    with services.files.new() as file:
        file.write(jsonl([line("c0", model="sim", text="Hi")]))
        kept = file.keep(road.tenant.id, "batch", "in.jsonl")
    batch = services.batches.create(road.tenant.id, endpoint=CHAT_URL, completion_window="1h", input_file_id=kept.id)
    assert isinstance(batch, Batch)
    road.worker("w")
    road.bulk()
    road.watchdog()
    headers = {"Authorization": f"Bearer {services.accounts.create_key('acme', actor='test').key}"}
    client = create_app(services).test_client()
    asked = {"model": "sim", "input": "Hi", "background": True}
    made = client.post(RESPONSES, json=asked, headers=headers).get_json()
    job_id = made["id"].replace("resp_", "job_")
    assert services.jobs.wait(road.tenant.id, job_id, 30).status is JobStatus.SUCCEEDED
    found = client.get(f"{RESPONSES}/{made['id']}", headers=headers)
    assert (found.get_json()["status"], found.get_json()["model"]) == ("completed", "spare")
    assert found.headers["x-qosqueue-detour"] == "fallback;from=sim"

    done = eventually(
        lambda: (now := services.batches.get(road.tenant.id, batch.id)).status is BatchStatus.COMPLETED and now, 60
    )
    assert (done.total, done.completed) == (1, 1)
    (row,) = services.files.path(done.output_file_id or "").read_text().splitlines()
    assert json.loads(row)["response"]["body"]["model"] == "spare"
    assert used(road) == [("spare", 2)]


def test_without_a_way_it_fails_once_and_nothing_is_charged(faulty: MakeFaulty) -> None:
    road = faulty(fault="fails", fallback=None)
    road.worker("w")
    job = ended(road, road.submit())
    assert (job.status, job.model) == (JobStatus.FAILED, "sim")
    assert (job.error or {})["code"] == "engine_failed"
    assert DecisionKind.FELL_BACK not in kinds(road, job)
    assert used(road) == []
    eventually(lambda: holds(road) == 0, within_s=5)


def test_a_road_without_retries_falls_back_after_the_first_attempt_and_one_without_fallback_fails(
    faulty: MakeFaulty,
) -> None:
    road = faulty(fault="fails")
    road.worker("w")
    for steps, end in (((RoadStep.FALLBACK,), ("spare", 2)), ((RoadStep.REJECT,), ("sim", 1))):
        road.services.accounts.update_tenant("acme", actor="test", road=[*steps])
        tenant = road.services.accounts.get_tenant("acme")
        submitted = road.services.jobs.submit(tenant, road.request())
        assert not isinstance(submitted, Refusal)
        job = ended(road, submitted)
        assert (job.model, job.fence) == end


@pytest.mark.parametrize("task_type", [TaskType.ASYNC, TaskType.ONLINE])
def test_models_that_fall_back_to_each_other_and_fail_both_are_asked_once_each(
    faulty: MakeFaulty, task_type: TaskType
) -> None:
    road = faulty(fault="fails")
    road.services.catalog.update_model("spare", actor="test", fallback_model="sim", options=STEPS | {"fault": "fails"})
    road.worker("w")
    if task_type is TaskType.ASYNC:
        job = ended(road, road.submit())
        assert (job.status, job.model) == (JobStatus.FAILED, "spare")
        assert kinds(road, job).count(DecisionKind.FELL_BACK) == 1
        return
    begun = call(road)
    events = list(begun.events())
    begun.close()
    assert isinstance(events[-1], Failed)
    assert [event.model for event in events if isinstance(event, Detoured)] == ["spare"]


def test_who_takes_a_job_back_while_its_model_fails_it_gets_it_back(faulty: MakeFaulty) -> None:
    """Before its message is gone, and after: it never runs on."""
    road = faulty()
    job, _, delivery = waiting(road)
    assert road.services.jobs.cancel(road.tenant.id, job.id).status is JobStatus.RUNNING
    assert settle(road, delivery) == 2, "whoever settles it hears of that"

    job, way, delivery = waiting(road)
    assert settle(road, delivery) == 1
    assert road.services.jobs.cancel(road.tenant.id, job.id).status is JobStatus.CANCELLED
    assert road.services.job_detours.go(way), "there is nothing left to be done"
    assert road.job(job).status is JobStatus.CANCELLED
    assert (road.depth(), holds(road)) == (0, 0)


def test_an_attempt_that_lost_its_lease_leads_nowhere(faulty: MakeFaulty) -> None:
    road = faulty()
    job, way, delivery = waiting(road)
    assert settle(road, delivery) == 1
    assert road.services.attempts.waits_again(job.id, delivery.fence, failed_ms=job.created_ms)
    assert road.services.job_detours.find(job.id, delivery.fence) is None
    assert road.services.job_detours.go(way)
    assert (road.job(job).model, road.depth(), holds(road)) == ("sim", 0, 0)


def test_a_worker_that_dies_before_it_has_queued_the_job_again_loses_nothing(faulty: MakeFaulty) -> None:
    road = faulty()
    job, _, delivery = waiting(road)
    assert settle(road, delivery) == 1
    services = road.services
    publisher = services.job_detours._publisher
    record = JobRecord(services.store)
    look = Reconciler(
        services.scripts,
        record,
        publisher,
        services.admission,
        SpentToday(services.scripts, services.usage),
        lease_ms=0,
        grace_ms=-1,
    )
    assert look.run().forgotten == [job.id]
    again = services.scripts.dispatch(lease_ms=60_000, holder="other", places=PLACES)
    assert isinstance(again, Delivery)
    assert again.fence > delivery.fence
    assert services.attempts.begin(job.id, again.fence, "other") is not None
    way = services.job_detours.find(job.id, again.fence)
    assert way is not None
    assert settle(road, again) == 1
    assert services.job_detours.go(way)
    assert look.run().forgotten == [], "it is in the queue, once"
    assert (road.job(job).model, road.job(job).status, road.depth()) == ("spare", JobStatus.QUEUED, 1)


def test_a_fallback_without_room_for_so_many_tokens_gives_a_shorter_answer(faulty: MakeFaulty) -> None:
    road = faulty()
    limited(road, tokens_per_minute=30)
    way, delivery = failing(road, (RoadStep.FALLBACK, RoadStep.DEGRADE))
    assert settle(road, delivery) == 1
    assert road.services.job_detours.go(way)
    job = road.job(way.job)
    assert (job.model, job.status, job.body["max_tokens"]) == ("spare", JobStatus.QUEUED, 16)
    assert job.details["detours"] == ["fallback;from=sim", "degrade;max_tokens=16"]
    assert kinds(road, job)[-3:] == [DecisionKind.FELL_BACK, DecisionKind.DEGRADED, DecisionKind.ADMITTED]


@pytest.mark.parametrize("full", [{"tokens_per_minute": 1}, {"max_in_flight": 0}, {"max_queued": 0}])
def test_where_nothing_on_the_road_has_room_the_job_is_let_in_all_the_same(
    faulty: MakeFaulty, full: dict[str, int]
) -> None:
    road = faulty()
    limited(road, **full)
    way, delivery = failing(road, (RoadStep.FALLBACK, RoadStep.DEGRADE))
    assert settle(road, delivery) == 1
    assert road.services.job_detours.go(way)
    job = road.job(way.job)
    assert (job.status, job.model, road.depth(), holds(road)) == (JobStatus.QUEUED, "spare", 1, 1)
    assert job.details["detours"] == ["fallback;from=sim"]


def test_who_takes_the_place_of_a_job_that_fell_back_does_not_end_it(faulty: MakeFaulty) -> None:
    road = faulty()
    road.tenant = road.services.accounts.update_tenant("acme", actor="test", max_in_flight=1, max_queued=1)
    job, way, delivery = waiting(road)
    assert settle(road, delivery) == 1
    road.submit()
    assert road.services.job_detours.go(way)
    assert (road.job(job).status, road.job(job).model, road.depth()) == (JobStatus.QUEUED, "spare", 2)
    counted: Any = road.services.redis.get(f"{road.services.scripts.key}:used:flight:t:{road.tenant.id}")
    assert counted.split(b":")[0] == b"2", "it counts, and new requests wait for the room"
    assert isinstance(road.services.jobs.submit(road.tenant, road.request()), Refusal)


def test_a_fallback_out_of_service_is_no_way_and_that_is_seen_before_the_message_goes(faulty: MakeFaulty) -> None:
    road = faulty()
    job, _, delivery = waiting(road)
    road.services.scripts.trip(name=model_breaker("spare"), for_ms=0)
    assert road.services.job_detours.find(job.id, delivery.fence) is None
    road.services.scripts.trip(name=model_breaker("spare"), for_ms=None)
    assert road.services.job_detours.find(job.id, delivery.fence) is not None


def limited(road: Road, **limits: int) -> None:
    """Limits of all requests to the model `spare`."""
    road.services.policies.set_override({"model": "spare"}, limits, actor="test", why="a test")


def failing(road: Road, steps: tuple[RoadStep, ...]) -> tuple[OtherWay, Delivery]:
    """A job of 64 output tokens as in `waiting`, whose tenant has that road."""
    tenant = dataclasses.replace(road.tenant, road=steps)
    job = road.services.jobs.submit(tenant, road.request(tokens=64))
    assert not isinstance(job, Refusal)
    delivery = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(delivery, Delivery)
    assert road.services.attempts.begin(job.id, delivery.fence, "w") is not None
    road.services.accounts.update_tenant("acme", actor="test", road=[*steps])
    way = road.services.job_detours.find(job.id, delivery.fence)
    assert way is not None
    return way, delivery

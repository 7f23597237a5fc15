"""Does a request find its way when an engine fails, hangs or breaks off, and does its tenant hear of that?

The engines are simulated, and so are their faults.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from qosqueue.policy.breaker import SOUND, State, model_breaker
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import OnLate, RoadStep, TaskType
from qosqueue.service.online import Chunk, Detoured, Done, Failed
from tests.support.eventually import eventually
from tests.support.faulty import call, holds
from tests.support.road import Road


def test_what_fails_once_before_its_first_word_is_tried_again(faulty: Any) -> None:
    road = faulty(fault="fails", faulty_requests=1)
    road.worker("w")
    begun = call(road)
    *_, last = begun.events()
    begun.close()
    assert isinstance(last, Done), last
    assert (begun.model, begun.detours) == ("sim", ())
    eventually(lambda: holds(road) == 0, within_s=5)


def test_a_job_that_fails_once_is_tried_again_and_charged_once(faulty: Any) -> None:
    road = faulty(fault="fails", faulty_requests=1)
    road.worker("w")
    tenant = dataclasses.replace(road.tenant, tokens_per_day=1_000, max_in_flight=1)
    job = road.services.jobs.submit(tenant, road.request())
    assert not isinstance(job, Refusal)
    done = road.services.jobs.wait(tenant.id, job.id, 20)
    assert (done.status, done.attempts) == (JobStatus.SUCCEEDED, 2)
    eventually(lambda: holds(road) == 0, within_s=5)
    key = f"{road.services.scripts.key}:used:day_tokens:t:{tenant.id}"
    charged: Any = road.services.redis.get(key)
    assert int(charged.split(b":")[0]) == (done.prompt_tokens or 0) + (done.completion_tokens or 0)


@pytest.mark.parametrize("fault", ["fails", "hangs"])
def test_a_model_that_goes_on_failing_is_replaced_by_its_fallback_which_the_answer_says(
    faulty: Any, fault: str
) -> None:
    road = faulty(fault=fault)
    road.worker("w")
    begun = call(road)
    events = list(begun.events())
    begun.close()
    assert any(isinstance(event, Detoured) for event in events)
    assert isinstance(events[-1], Done), events
    assert events[-1].result["model"] == begun.model == "spare"
    assert begun.detours == ("fallback;from=sim",)
    eventually(lambda: holds(road) == 0, within_s=5)


def test_without_a_fallback_it_fails_and_everything_is_given_back(faulty: Any) -> None:
    road = faulty(fault="fails", fallback=None)
    road.worker("w")
    tenant = dataclasses.replace(road.tenant, tokens_per_day=1_000)
    begun = call(road, tenant)
    *_, last = begun.events()
    begun.close()
    assert isinstance(last, Failed)
    assert last.error["code"] == "engine_failed"
    eventually(lambda: holds(road) == 0, within_s=5)
    assert not road.services.redis.exists(f"{road.services.scripts.key}:used:day_tokens:t:{tenant.id}")


def test_a_stream_that_breaks_off_is_not_begun_a_second_time(faulty: Any) -> None:
    road = faulty(fault="resets")
    road.worker("w")
    begun = call(road)
    events = list(begun.events())
    begun.close()
    assert isinstance(events[-1], Failed)
    said = [event.choices[0]["delta"].get("content") for event in events if isinstance(event, Chunk)]
    assert len([word for word in said if word]) == 2
    eventually(lambda: holds(road) == 0, within_s=5)


def test_an_answer_that_nobody_has_a_part_of_may_break_off_and_is_tried_again(faulty: Any) -> None:
    road = faulty(fault="resets", faulty_requests=1)
    road.worker("w")
    begun = call(road, stream=False)
    *_, last = begun.events()
    begun.close()
    assert isinstance(last, Done)


def test_faults_open_the_models_breaker_which_probes_close(faulty: Any) -> None:
    # One attempt each: no fault is told after the one that opens it.
    road = faulty(fault="fails", faulty_requests=5, fallback=None)
    stubborn = dataclasses.replace(road.tenant, road=(RoadStep.REJECT,))
    road.worker("w")
    for _ in range(5):
        begun = call(road, stubborn)
        list(begun.events())
        begun.close()
    scripts = road.services.scripts
    eventually(lambda: scripts.probe().get(model_breaker("sim"), SOUND).state is State.OPEN, within_s=5)
    refusal = road.services.online.start(road.tenant, road.request(TaskType.ONLINE))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (503, "model_unavailable")
    assert refusal.retry_after_s is not None
    assert 1 <= refusal.retry_after_s <= 120
    now_ms = scripts.server_ms()
    scripts.probe(now_ms=now_ms + 6_000)  # the pause is over
    for _ in range(3):
        begun = call(road)
        *_, last = begun.events()
        begun.close()
    assert isinstance(last, Done)
    eventually(lambda: model_breaker("sim") not in scripts.probe(), within_s=5)


def test_a_model_out_of_service_is_replaced_at_the_door_for_jobs_too(faulty: Any) -> None:
    road = faulty()
    road.services.scripts.trip(name=model_breaker("sim"), for_ms=0)
    job = road.services.jobs.submit(road.tenant, road.request())
    assert not isinstance(job, Refusal)
    assert (job.model, job.details["detours"]) == ("spare", ["fallback;from=sim"])
    stubborn = dataclasses.replace(road.tenant, road=(RoadStep.REJECT,))
    refusal = road.services.jobs.submit(stubborn, road.request())
    assert isinstance(refusal, Refusal)
    assert refusal.code == "model_unavailable"


def test_fallbacks_that_go_round_end(faulty: Any) -> None:
    road = faulty()
    road.services.catalog.update_model("spare", actor="test", fallback_model="sim")
    for name in ("sim", "spare"):
        road.services.scripts.trip(name=model_breaker(name), for_ms=0)
    refusal = road.services.online.start(road.tenant, road.request(TaskType.ONLINE))
    assert isinstance(refusal, Refusal)
    assert "'sim'" in refusal.message


def test_a_shorter_answer_fits_where_the_road_allows_it(faulty: Any) -> None:
    road = faulty()
    road_of_it = (RoadStep.DEGRADE, RoadStep.DEFER, RoadStep.REJECT)
    tenant = dataclasses.replace(road.tenant, tokens_per_minute=120, road=road_of_it)
    job = road.services.jobs.submit(tenant, road.request(tokens=400))
    assert not isinstance(job, Refusal)
    assert job.body["max_tokens"] == 100
    assert job.details["detours"] == ["degrade;max_tokens=100"]
    refusal = road.services.online.start(tenant, road.request(TaskType.ONLINE, tokens=400))
    assert isinstance(refusal, Refusal)


def late(road: Road) -> None:
    """A pool of one slot, and more work before it than anybody can wait for."""
    road.services.watchdog.age()
    client, key = road.services.redis, road.services.scripts.key
    client.hset(f"{key}:pool:sim", mapping={"slots": 1, "mean_ms": 60_000, "size_q10": 1024})
    for _ in range(20):
        call(road)


@pytest.mark.parametrize("on_late", [OnLate.REJECT, OnLate.DEFER])
def test_who_would_start_too_late_is_told_so_at_the_door(faulty: Any, on_late: OnLate) -> None:
    road = faulty(fallback=None)
    late(road)
    tenant = dataclasses.replace(road.tenant, on_late=on_late)
    refusal = road.services.online.start(tenant, road.request(TaskType.ONLINE))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (429, "resource_unavailable")
    assert ("POST /v1/jobs" in refusal.message) == (on_late is OnLate.DEFER)
    assert refusal.retry_after_s is not None
    assert 1 <= refusal.retry_after_s <= 120


def test_who_would_start_too_late_runs_later_where_that_is_agreed_and_else_waits_as_ever(faulty: Any) -> None:
    road = faulty(fallback=None)
    late(road)
    lower = call(road, dataclasses.replace(road.tenant, on_late=OnLate.DOWNGRADE))
    same = call(road)
    assert (lower.detours, same.detours) == (("downgrade",), ())
    assert lower.profile.latency_budget_ms > same.profile.latency_budget_ms
    for begun in (lower, same):
        begun.close()


def test_who_would_start_too_late_may_have_the_fallback(faulty: Any) -> None:
    road = faulty()
    late(road)
    begun = call(road, dataclasses.replace(road.tenant, on_late=OnLate.REJECT))
    assert begun.model == "spare"
    begun.close()

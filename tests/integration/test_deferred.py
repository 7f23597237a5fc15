"""Does a request that cannot be answered now get its answer as a job, where its tenant's policy and its client agree?

Over HTTP, with real services; engines and faults are simulated.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flask.testing import FlaskClient

from qosqueue.policy.breaker import model_breaker
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.profile import DEFAULT_BUDGET_MS, TTL_MS
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import RoadStep, TaskType, Tier
from qosqueue.service.answers import RESPONSES
from qosqueue_web.app import create_app
from tests.support.eventually import eventually
from tests.support.faulty import MakeFaulty, call, holds
from tests.support.openai_error import error_of
from tests.support.road import CHAT, Road

BODY = CHAT | {"model": "sim", "max_tokens": 8}


def asker(road: Road, **changes: Any) -> tuple[FlaskClient, dict[str, str]]:
    """A client of the road's HTTP application, and the headers of its tenant, whose road is to defer."""
    road.services.accounts.update_tenant("acme", actor="test", road=["defer"], **changes)
    key = road.services.accounts.create_key("acme", actor="test").key
    return create_app(road.services).test_client(), {"Authorization": f"Bearer {key}"}


def test_what_its_model_cannot_answer_now_waits_for_it_as_a_job(faulty: MakeFaulty) -> None:
    road = faulty(fallback=None)
    client, headers = asker(road, requests_per_minute=10)
    road.services.scripts.trip(name=model_breaker("sim"), for_ms=0)
    refused = error_of(client.post("/v1/chat/completions", json=BODY, headers=headers), 503)
    assert refused["code"] == "model_unavailable"
    assert "`Prefer: respond-async`" in str(refused["message"])

    taken = client.post("/v1/chat/completions", json=BODY, headers=headers | {"Prefer": "respond-async"})
    assert taken.status_code == 202, taken.text
    assert taken.headers["Preference-Applied"] == "respond-async"
    assert taken.headers["x-ratelimit-remaining-requests"] == "9"
    job_id = taken.get_json()["id"]
    road.worker("w")
    assert road.services.jobs.wait(road.tenant.id, job_id, 0.3).status is JobStatus.QUEUED
    road.services.scripts.trip(name=model_breaker("sim"), for_ms=None)
    done = road.services.jobs.wait(road.tenant.id, job_id, 20)
    assert (done.status, done.model, done.details["detours"]) == (JobStatus.SUCCEEDED, "sim", ["defer"])
    told = road.services.explanations.of_tenant(road.tenant.id, job_id).text
    assert told.startswith("Degraded to a job: its model was out of service. Admitted to vip.light")
    eventually(lambda: holds(road) == 0, within_s=5)


def test_what_its_model_has_failed_is_tried_again_as_a_job(faulty: MakeFaulty) -> None:
    road = faulty(fault="fails", faulty_requests=1, fallback=None)
    client, headers = asker(road)
    road.worker("w")
    asked = headers | {"Prefer": "respond-async"}
    taken = client.post("/v1/chat/completions", json=BODY, headers=asked)
    assert taken.status_code == 202, taken.text
    done = road.services.jobs.wait(road.tenant.id, taken.get_json()["id"], 20)
    assert done.status is JobStatus.SUCCEEDED
    both = eventually(lambda: len(found := road.services.jobs.list(None, 9)) == 2 and found, within_s=5)
    assert {job.status for job in both} == {JobStatus.SUCCEEDED, JobStatus.FAILED}
    assert [each.requests for each in road.services.usage.list()] == [1]


def test_what_would_start_too_late_becomes_a_job_with_a_budget_of_its_own(faulty: MakeFaulty) -> None:
    road = faulty(fallback=None)
    client, headers = asker(road, on_late="defer")
    road.services.watchdog.age()
    pool = {"slots": 1, "mean_ms": 60_000, "size_q10": 1_024}
    road.services.redis.hset(f"{road.services.scripts.key}:pool:sim", mapping=pool)
    other = road.services.accounts.create_tenant("other", Tier.VIP, actor="test")
    waiting = [call(road, other) for _ in range(20)]
    body = BODY | {"latency_budget_ms": 400}
    refused = error_of(client.post("/v1/chat/completions", json=body, headers=headers), 429)
    assert refused["code"] == "resource_unavailable"

    taken = client.post("/v1/chat/completions", json=body, headers=headers | {"Prefer": "respond-async"})
    assert taken.status_code == 202, taken.text
    job = road.services.jobs.get(road.tenant.id, taken.get_json()["id"])
    default_ms = DEFAULT_BUDGET_MS[TaskType.ASYNC][Tier.VIP]
    assert (job.latency_budget_ms, job.expires_ms - job.created_ms) == (default_ms, TTL_MS[TaskType.ASYNC])
    assert job.details["detours"] == ["defer"]
    for each in waiting:
        each.close()


def test_the_order_of_the_road_decides_between_a_job_and_the_fallback(faulty: MakeFaulty) -> None:
    road = faulty()
    road.services.scripts.trip(name=model_breaker("sim"), for_ms=0)
    for steps, falls_back in (
        ((RoadStep.DEFER, RoadStep.FALLBACK), False),
        ((RoadStep.FALLBACK, RoadStep.DEFER), True),
    ):
        tenant = dataclasses.replace(road.tenant, road=steps)
        went = road.services.online.start(tenant, road.request(TaskType.ONLINE, may_defer=True))
        assert isinstance(went, Refusal) != falls_back
        if isinstance(went, Refusal):
            assert went.as_job
            assert "Prefer" not in went.message, "its client has said so already"
        else:
            went.close()
        # Whose client would not take a job has the next step in any case.
        begun = call(road, tenant)
        assert begun.model == "spare"
        begun.close()


def test_a_response_is_told_of_its_own_way(faulty: MakeFaulty) -> None:
    road = faulty(fallback=None)
    client, headers = asker(road)
    road.services.scripts.trip(name=model_breaker("sim"), for_ms=0)
    asked = headers | {"Prefer": "respond-async"}
    refused = error_of(client.post(RESPONSES, json={"model": "sim", "input": "Hi"}, headers=asked), 503)
    assert '`"background": true`' in str(refused["message"])

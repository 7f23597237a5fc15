"""Does `explain` tell the whole story of a request that was passed over, moved by an operator, and fell back?

With a real worker, over the command line and over HTTP; engines and their faults are simulated.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from qosqueue.cli import app
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import RoadStep, Tier
from qosqueue.store.decisions import DecisionKind
from qosqueue.store.records import Job
from qosqueue_web.app import create_app
from tests.support.eventually import eventually
from tests.support.faulty import MakeFaulty, call
from tests.support.road import Road

TOLD = [
    r"With it 1 of 10 requests per minute \(tenant 'stranger'\) were used\.",
    r"An operator moved it: priority 7\.",
    r"2 requests of its model began before it \(2 of vip tenants\); its tenant ran as many at once as its cap allows",
    r"Attempt 1 began on w",
    r"Tried again elsewhere: the engine failed before anything was heard of its answer\.",
    r"Attempt 2 began on w",
    r"Attempt 3 began on w",
    r"Fell back from sim to spare: its model had failed it\.",
    r"Admitted to basic\.light",
    r"Attempt 4 began on w",
    r"Succeeded .* after it came",
]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command on a road; what it has printed as JSON."""

    def run(road: Road, words: str) -> Any:
        monkeypatch.setenv("QOSQUEUE_HOME", str(road.settings.home))
        monkeypatch.setenv("QOSQUEUE_REDIS_URL", str(road.settings.redis_url))
        done = CliRunner().invoke(app, shlex.split(words))
        assert done.exit_code == 0, done.stderr or done.exception
        return json.loads(done.stdout) if "--json" in words else None

    return run


def test_a_job_that_was_passed_over_reranked_and_fell_back(faulty: MakeFaulty, commands: Any) -> None:
    road = faulty(fault="fails")
    services = road.services
    stranger = services.accounts.create_tenant("stranger", Tier.BASIC, actor="test", requests_per_minute=10)
    services.limits.set("t:stranger", 0, actor="test", for_s=3_600)
    job = services.jobs.submit(stranger, road.request())
    assert isinstance(job, Job)
    hasty = dataclasses.replace(road.tenant, road=(RoadStep.FALLBACK,))
    others = [services.jobs.submit(hasty, road.request()) for _ in range(2)]
    services.accounts.update_tenant("acme", actor="test", road=["fallback"])
    commands(road, f"job rerank {job.id} --priority 7")
    road.worker("w")
    for other in others:
        assert not isinstance(other, Refusal)
        assert services.jobs.wait(road.tenant.id, other.id, 20).model == "spare"
    services.limits.lift("t:stranger", actor="test")
    assert services.jobs.wait(stranger.id, job.id, 30).status is JobStatus.SUCCEEDED

    told = commands(road, f"job explain {job.id} --json")
    assert re.search(".*".join(TOLD), told["text"]), told["text"]
    instants = [sentence["at_ms"] for sentence in told["sentences"]]
    assert instants == sorted(instants)

    key = services.accounts.create_key("stranger", actor="test").key
    answer = (
        create_app(services).test_client().get(f"/v1/jobs/{job.id}/explain", headers={"Authorization": f"Bearer {key}"})
    )
    assert "Fell back from sim to spare: its model had failed it." in answer.get_json()["text"]
    assert "acme" not in answer.text
    assert " on w" not in answer.get_json()["text"]


def test_a_chat_that_fell_back_after_its_model_had_failed_it_tells_so_too(faulty: MakeFaulty) -> None:
    road = faulty(fault="fails")
    road.worker("w")
    begun = call(road, dataclasses.replace(road.tenant, max_in_flight=5))
    list(begun.events())
    begun.close()
    eventually(lambda: services_know(road, begun.id), within_s=5)
    told = road.services.explanations.of_tenant(road.tenant.id, begun.id)
    assert [each.kind for each in told.decisions if each.kind is not DecisionKind.DISPATCHED] == [
        *[DecisionKind.ADMITTED, DecisionKind.FELL_BACK, DecisionKind.ADMITTED]
    ]
    assert "With it 1 of 5 requests in flight (tenant 'acme') were used." in told.text
    assert "Fell back from sim to spare: its model had failed it." in told.text


def test_detours_at_the_door_are_told_before_what_was_admitted(faulty: MakeFaulty) -> None:
    road = faulty(fallback=None)
    tenant = dataclasses.replace(road.tenant, tokens_per_minute=120, road=(RoadStep.DEGRADE,))
    job = road.services.jobs.submit(tenant, road.request(tokens=400))
    assert isinstance(job, Job)
    told = road.services.explanations.of_tenant(road.tenant.id, job.id)
    assert told.text.startswith("Degraded to 100 tokens: there was no room for so many tokens. Admitted to vip.light")
    assert "With it 104 of 120 tokens per minute (tenant 'acme') were used." in told.text


def services_know(road: Road, request_id: str) -> bool:
    return any(job.id == request_id for job in road.services.jobs.list(None, 9))

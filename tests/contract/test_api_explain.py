"""Does a tenant learn why its request waited, and nothing of anybody else?"""

from __future__ import annotations

from typing import TypedDict

import pytest
from flask.testing import FlaskClient

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.terms import Tier
from qosqueue.service.requests import JobRequest
from qosqueue.store.records import Job
from qosqueue_web.app import create_app
from tests.support.road import Road

PLACES = [("vip.light", "sim"), ("basic.light", "sim")]


class Asked(TypedDict):
    client: FlaskClient
    auth: dict[str, str]
    stranger: dict[str, str]


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


@pytest.fixture
def asked(modelled: Road) -> Asked:
    """The real services behind the API, and the keys of `acme` (vip) and of a stranger (basic)."""
    accounts = modelled.services.accounts
    accounts.create_tenant("stranger", Tier.BASIC, actor="test")
    keys = [accounts.create_key(name, actor="test").key for name in ("acme", "stranger")]
    own, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    return {"client": create_app(modelled.services).test_client(), "auth": own, "stranger": other}


def begin(road: Road, count: int = 1) -> list[str]:
    """Pick so many and let them begin on `secret-host`; their ids."""
    begun = []
    for _ in range(count):
        found = road.services.scripts.dispatch(lease_ms=60_000, holder="secret-host", places=PLACES)
        assert isinstance(found, Delivery)
        assert road.services.attempts.begin(found.task, found.fence, "secret-host", found.passage) is not None
        begun.append(found.task)
    return begun


def foreign(road: Road, request: JobRequest | None = None) -> Job:
    stranger = road.services.accounts.get_tenant("stranger")
    job = road.services.jobs.submit(stranger, request or road.request())
    assert isinstance(job, Job)
    return job


def test_who_began_before_is_told_without_names(modelled: Road, asked: Asked) -> None:
    ahead = [modelled.submit() for _ in range(3)]
    waits = foreign(modelled)
    assert begin(modelled, 4) == [*(job.id for job in ahead), waits.id]
    response = asked["client"].get(f"/v1/jobs/{waits.id}/explain", headers=asked["stranger"])
    assert response.status_code == 200
    told = response.get_json()
    assert (told["object"], told["status"]) == ("job.explanation", "running")
    assert "3 requests of its model began before it (3 of vip tenants)" in told["text"]
    assert told["began_before"] == [{"tenant": "another tenant", "requests": 3}]
    admitted, dispatched = told["decisions"]
    assert (admitted["kind"], admitted["facts"]["lane"]) == ("admitted", "basic.light")
    assert dispatched["facts"]["met"]["began_vip"] == 3
    for secret in ("acme", modelled.tenant.id, "secret-host"):
        assert secret not in response.text


def test_own_requests_are_told_apart(modelled: Road, asked: Asked) -> None:
    jobs = [modelled.submit() for _ in range(3)]
    begin(modelled, 3)
    told = asked["client"].get(f"/v1/jobs/{jobs[2].id}/explain", headers=asked["auth"]).get_json()
    assert "2 requests of its model began before it (2 of vip tenants), 2 of them were your own" in told["text"]
    assert told["began_before"] == [{"tenant": "you", "requests": 2}]


def test_what_still_waits_is_told_its_place_and_what_binds_it(modelled: Road, asked: Asked) -> None:
    first, second = modelled.submit(), modelled.submit()
    late = foreign(modelled)
    told = asked["client"].get(f"/v1/jobs/{late.id}/explain", headers=asked["stranger"]).get_json()
    assert told["sentences"][-1] == {"at": None, "text": "What binds it now: no worker serves sim."}
    assert "2 of its model stand before it (2 vip)" in told["text"]
    modelled.services.limits.set("t:acme", 0, actor="test", for_s=60)
    told = asked["client"].get(f"/v1/jobs/{second.id}/explain", headers=asked["auth"]).get_json()
    assert "1 of its model stand before it (1 vip), 1 of them was your own." in told["text"]
    assert "its tenant's cap (0 at once) is reached" in told["text"]
    assert first.id != second.id


def test_a_synchronous_request_is_explained_by_the_id_of_its_answer(modelled: Road, asked: Asked) -> None:
    call = modelled.call()
    chat = call.id.replace("job_", "chatcmpl-")
    told = asked["client"].get(f"/v1/jobs/{chat}/explain", headers=asked["auth"]).get_json()
    assert (told["id"], told["status"]) == (call.id, "queued")
    foreign_answer = asked["client"].get(f"/v1/jobs/{chat}/explain", headers=asked["stranger"])
    unknown = asked["client"].get("/v1/jobs/chatcmpl-nothing/explain", headers=asked["stranger"])
    assert foreign_answer.status_code == unknown.status_code == 404
    assert foreign_answer.data == unknown.data
    call.close()


def test_what_ended_tells_its_end(modelled: Road, asked: Asked) -> None:
    job = modelled.submit()
    begin(modelled)
    counts = {"prompt_tokens": 7, "completion_tokens": 2, "gpu_ms": 1_500}
    assert modelled.services.attempts.finish(job.id, 1, {}, first_token_ms=job.created_ms + 20, **counts)
    told = asked["client"].get(f"/v1/jobs/{job.id}/explain", headers=asked["auth"]).get_json()
    assert told["status"] == JobStatus.SUCCEEDED
    assert "its first token after 20 ms: 7 prompt and 2 completion tokens, 1.5 s of a slot." in told["text"]
    assert all(sentence["at"] is not None for sentence in told["sentences"])

"""Are quotas exact over several web processes, and is a refusal clear?"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.admission import Admission
from qosqueue.service.asked_model import find_model
from qosqueue.service.requests import Admitted, JobRequest
from qosqueue.store.ids import new_id
from qosqueue.store.records import Tenant
from tests.support.road import Road


def admission(road: Road, client: redis.Redis | None = None) -> Admission:
    services = road.services
    scripts = services.scripts if client is None else Scripts(client, road.settings.group)
    return Admission(services.catalog, scripts, most_queued=100)


def limited(road: Road, **limits: int) -> Tenant:
    return dataclasses.replace(road.tenant, **limits)


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def test_requests_per_minute_are_exact_over_two_instances(modelled: Road) -> None:
    tenant = limited(modelled, requests_per_minute=20)
    doors = [admission(modelled), admission(modelled)]
    answers: list[Any] = []

    def knock(door: Admission) -> None:
        for _ in range(15):
            answers.append(door.admit(tenant, modelled.request(), new_id("job")))

    threads = [threading.Thread(target=knock, args=(door,)) for door in doors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Admitted) for answer in answers) == 20
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    assert len(refusals) == 10


def test_the_refusal_says_what_was_asked_used_and_when_to_come_back(modelled: Road) -> None:
    tenant = limited(modelled, tokens_per_minute=20)
    door = admission(modelled)
    assert isinstance(door.admit(tenant, modelled.request(tokens=11), new_id("job")), Admitted)
    refusal = door.admit(tenant, modelled.request(tokens=2), new_id("job"))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (429, "rate_limit_exceeded", None)
    assert refusal.retry_after_s is not None
    assert 1 <= refusal.retry_after_s <= 120
    for part in ("'acme'", "20 tokens per minute", "15 used", "needs 6", f"in {refusal.retry_after_s} s"):
        assert part in refusal.message
    assert isinstance(door.admit(tenant, modelled.request(tokens=1), new_id("job")), Admitted), (
        "a refusal costs no tokens"
    )


def test_tenants_and_kinds_do_not_share_a_quota(modelled: Road) -> None:
    door = admission(modelled)
    one = limited(modelled, requests_per_minute=1, tokens_per_minute=100)
    other = dataclasses.replace(one, id="ten_other")
    for tenant in (one, other):
        assert isinstance(door.admit(tenant, modelled.request(), new_id("job")), Admitted)
        assert isinstance(door.admit(tenant, modelled.request(), new_id("job")), Refusal)


def test_no_limit_is_no_limit(modelled: Road) -> None:
    door = admission(modelled)
    assert all(isinstance(door.admit(modelled.tenant, modelled.request(), new_id("job")), Admitted) for _ in range(50))


@pytest.mark.parametrize("name", ["nobody", "", "x" * 200, "a\u0000b", "{}:*"])
def test_an_unknown_model(modelled: Road, name: str) -> None:
    refusal = admission(modelled).admit(modelled.tenant, JobRequest("/", name, {}, TaskType.ASYNC, 1, 1), new_id("job"))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (404, "model_not_found", "model")
    assert refusal == find_model(modelled.services.catalog, name), "the routes give the same answer"
    assert len(refusal.message) < 200


def test_a_disabled_model_is_as_good_as_none(modelled: Road) -> None:
    modelled.model("resting", enabled=False)
    refusal = admission(modelled).admit(modelled.tenant, modelled.request(model="resting"), new_id("job"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "model_not_found"


def test_the_tenants_target_counts_for_online_work_only(modelled: Road) -> None:
    tenant = limited(modelled, online_target_ms=77)
    door = admission(modelled)
    online = door.admit(tenant, modelled.request(TaskType.ONLINE), new_id("job"))
    job = door.admit(tenant, modelled.request(TaskType.ASYNC), new_id("job"))
    assert isinstance(online, Admitted)
    assert isinstance(job, Admitted)
    assert online.profile.latency_budget_ms == 77
    assert job.profile.latency_budget_ms != 77


def test_quotas_that_cannot_be_counted_admit_nothing(modelled: Road, tmp_path: Any) -> None:
    client = redis.Redis(unix_socket_path=str(tmp_path / "none.sock"))
    door = admission(modelled, client)
    with pytest.raises(BrokerUnavailable, match="quotas cannot be counted"):
        door.admit(limited(modelled, requests_per_minute=5), modelled.request(), new_id("job"))
    client.close()


def test_a_request_larger_than_its_whole_quota_is_not_told_to_come_again(modelled: Road) -> None:
    refusal = admission(modelled).admit(
        limited(modelled, tokens_per_minute=20), modelled.request(tokens=21), new_id("job")
    )
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "insufficient_quota", None)

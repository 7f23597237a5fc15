"""Are quotas exact over several web processes, and is a refusal clear?"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.quota import HOLD_MS
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.admission import Admission
from qosqueue.service.asked_model import find_model
from qosqueue.service.requests import Admitted, JobRequest
from qosqueue.store.ids import new_id
from qosqueue.store.records import Tenant
from tests.support.eventually import eventually
from tests.support.road import Road


def admission(road: Road, client: redis.Redis | None = None) -> Admission:
    services = road.services
    scripts = services.scripts if client is None else Scripts(client, road.settings.group)
    return Admission(services.catalog, services.agreements, scripts, most_queued=100)


def limited(road: Road, **limits: int) -> Tenant:
    return dataclasses.replace(road.tenant, **limits)


def admit(door: Admission, tenant: Tenant, request: JobRequest) -> Admitted | Refusal:
    plan = door.plan(tenant, request)
    return plan if isinstance(plan, Refusal) else door.admit(plan, new_id("job"))


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
            answers.append(admit(door, tenant, modelled.request()))

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
    assert isinstance(admit(door, tenant, modelled.request(tokens=11)), Admitted)
    refusal = admit(door, tenant, modelled.request(tokens=2))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (429, "rate_limit_exceeded", None)
    assert refusal.retry_after_s is not None
    assert 1 <= refusal.retry_after_s <= 120
    for part in ("'acme'", "20 tokens per minute", "15 used", "needs 6", f"in {refusal.retry_after_s} s"):
        assert part in refusal.message
    assert isinstance(admit(door, tenant, modelled.request(tokens=1)), Admitted), "a refusal costs no tokens"


def test_tenants_and_kinds_do_not_share_a_quota(modelled: Road) -> None:
    door = admission(modelled)
    one = limited(modelled, requests_per_minute=1, tokens_per_minute=100)
    other = dataclasses.replace(one, id="ten_other")
    for tenant in (one, other):
        assert isinstance(admit(door, tenant, modelled.request()), Admitted)
        assert isinstance(admit(door, tenant, modelled.request()), Refusal)


def test_no_limit_is_no_limit(modelled: Road) -> None:
    door = admission(modelled)
    assert all(isinstance(admit(door, modelled.tenant, modelled.request()), Admitted) for _ in range(50))


@pytest.mark.parametrize("name", ["nobody", "", "x" * 200, "a\u0000b", "{}:*"])
def test_an_unknown_model(modelled: Road, name: str) -> None:
    refusal = admit(admission(modelled), modelled.tenant, JobRequest("/", name, {}, TaskType.ASYNC, 1, 1))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (404, "model_not_found", "model")
    assert refusal == find_model(modelled.services.catalog, name), "the routes give the same answer"
    assert len(refusal.message) < 200


def test_a_disabled_model_is_as_good_as_none(modelled: Road) -> None:
    modelled.model("resting", enabled=False)
    refusal = admit(admission(modelled), modelled.tenant, modelled.request(model="resting"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "model_not_found"


def test_the_tenants_target_counts_for_online_work_only(modelled: Road) -> None:
    tenant = limited(modelled, online_target_ms=77)
    door = admission(modelled)
    online = admit(door, tenant, modelled.request(TaskType.ONLINE))
    job = admit(door, tenant, modelled.request(TaskType.ASYNC))
    assert isinstance(online, Admitted)
    assert isinstance(job, Admitted)
    assert online.profile.latency_budget_ms == 77
    assert job.profile.latency_budget_ms != 77


def test_quotas_that_cannot_be_counted_admit_nothing(modelled: Road, tmp_path: Any) -> None:
    client = redis.Redis(unix_socket_path=str(tmp_path / "none.sock"))
    door = admission(modelled, client)
    with pytest.raises(BrokerUnavailable, match="quotas cannot be counted"):
        admit(door, limited(modelled, requests_per_minute=5), modelled.request())
    client.close()


def test_a_request_larger_than_its_whole_quota_is_not_told_to_come_again(modelled: Road) -> None:
    refusal = admit(admission(modelled), limited(modelled, tokens_per_minute=20), modelled.request(tokens=21))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "insufficient_quota", None)


def what_is_left(road: Road) -> dict[str, int]:
    """What is used of each of the tenant's quotas, in flight and by day, and how many hold anything."""
    client, key = road.services.redis, f"{road.services.scripts.key}:"
    used = {name.decode().removeprefix(f"{key}used:"): client.get(name) for name in client.scan_iter(f"{key}used:*")}
    return {name: int(told.split(b":")[0]) for name, told in used.items()} | {"holds": client.zcard(f"{key}holds")}  # type: ignore[union-attr, dict-item]


ALL = {
    "requests_per_minute": 50,
    "tokens_per_minute": 5_000,
    "tokens_per_day": 9_000,
    "gpu_seconds_per_day": 600,
    "max_in_flight": 5,
    "max_queued": 4,
}


@pytest.mark.parametrize(
    ("limits", "status", "code", "said"),
    [
        ({"max_in_flight": 2}, 429, "rate_limit_exceeded", ("2 requests in flight, 2 used", "'acme'")),
        ({"max_queued": 2}, 503, "queue_full", ("2 requests waiting, 2 used", "'acme'")),
        ({"tokens_per_day": 12}, 429, "insufficient_quota", ("12 tokens per day, 12 used",)),
        ({"requests_per_minute": 2}, 429, "rate_limit_exceeded", ("2 requests per minute, 2 used",)),
    ],
)
def test_each_refusal_says_which_limit_and_when_to_come_back(
    modelled: Road, limits: dict[str, int], status: int, code: str, said: tuple[str, ...]
) -> None:
    door, tenant = admission(modelled), limited(modelled, **limits)
    assert all(isinstance(admit(door, tenant, modelled.request(tokens=2)), Admitted) for _ in range(2))
    refusal = admit(door, tenant, modelled.request(tokens=2))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code)
    assert refusal.retry_after_s is not None
    for part in (*said, f"in {refusal.retry_after_s} s"):
        assert part in refusal.message
    if code == "insufficient_quota":
        left_s = 86_400 - modelled.services.scripts.server_ms() // 1_000 % 86_400
        assert abs(refusal.retry_after_s - left_s) <= 2, "a spent day says when the day is over"
    else:
        assert refusal.retry_after_s <= 120


def test_a_tier_has_a_bound_on_its_queue(modelled: Road) -> None:
    services = modelled.services
    door = Admission(services.catalog, services.agreements, services.scripts, most_queued=1)
    assert isinstance(admit(door, modelled.tenant, modelled.request()), Admitted)
    refusal = admit(door, modelled.tenant, modelled.request())
    assert isinstance(refusal, Refusal)
    assert (refusal.code, "tier vip" in refusal.message) == ("queue_full", True)


def test_what_a_request_took_is_given_back_when_it_is_taken_back_or_expires(modelled: Road) -> None:
    tenant = limited(modelled, **ALL)
    job = modelled.services.jobs.submit(tenant, modelled.request())
    call = modelled.services.online.start(tenant, modelled.request(TaskType.ONLINE))
    short = modelled.services.jobs.submit(tenant, modelled.request(ttl_ms=1))
    assert not isinstance(job, Refusal)
    assert not isinstance(call, Refusal)
    assert not isinstance(short, Refusal)
    left = what_is_left(modelled)
    assert left["holds"] == 3
    assert left[f"flight:t:{tenant.id}"] == left[f"queue:t:{tenant.id}"] == left["queue:c:vip"] == 3
    modelled.services.jobs.cancel(tenant.id, job.id)
    call.close()
    eventually(lambda: modelled.services.scripts.reap(limit=9).expired, within_s=5)
    assert what_is_left(modelled) == {"holds": 0}


def test_a_job_that_cannot_be_recorded_holds_nothing(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(modelled.services.jobs._record, "insert", away)
    with pytest.raises(StoreUnavailable):
        modelled.services.jobs.submit(limited(modelled, **ALL), modelled.request())
    assert what_is_left(modelled) == {"holds": 0}


def test_a_crash_between_the_door_and_the_queue_leaks_nothing(modelled: Road) -> None:
    """Admitted and never queued: the watchdog's sweep finds it when its time is over, and not before."""
    scripts = modelled.services.scripts
    assert isinstance(admit(admission(modelled), limited(modelled, **ALL), modelled.request()), Admitted)
    assert scripts.lapse(limit=9) == ()
    (lapsed,) = scripts.lapse(limit=9, now_ms=scripts.server_ms() + HOLD_MS)
    assert lapsed.startswith("job_")
    assert what_is_left(modelled) == {"holds": 0}


def test_what_was_estimated_is_settled_by_what_was_used(modelled: Road) -> None:
    modelled.worker("w")
    tenant = limited(modelled, **ALL)
    job = modelled.services.jobs.submit(tenant, modelled.request(tokens=4))
    assert not isinstance(job, Refusal)
    done = modelled.services.jobs.wait(tenant.id, job.id, 20)
    assert done.status is JobStatus.SUCCEEDED
    used = (done.prompt_tokens or 0) + (done.completion_tokens or 0)
    eventually(lambda: what_is_left(modelled)["holds"] == 0, within_s=5)
    left = what_is_left(modelled)
    assert left[f"day_tokens:t:{tenant.id}"] == used != done.cost_tokens
    assert not any(name.startswith(("flight", "queue")) for name in left)
    assert 0 < left.get(f"day_gpu_ms:t:{tenant.id}", 1) < 5_000


def test_success_and_refusal_tell_what_is_left(modelled: Road) -> None:
    door, tenant = admission(modelled), limited(modelled, requests_per_minute=2, tokens_per_minute=100)
    admitted = admit(door, tenant, modelled.request(tokens=6))
    assert isinstance(admitted, Admitted)
    assert admitted.rates.requests is not None
    assert admitted.rates.tokens is not None
    assert (admitted.rates.requests.most, admitted.rates.requests.remaining) == (2, 1)
    assert (admitted.rates.tokens.most, admitted.rates.tokens.remaining) == (100, 90)
    assert 0 < admitted.rates.requests.reset_ms <= 30_000
    admit(door, tenant, modelled.request())
    refusal = admit(door, tenant, modelled.request())
    assert isinstance(refusal, Refusal)
    assert refusal.rates.requests is not None
    assert refusal.rates.requests.remaining == 0


def test_an_override_counts_only_what_comes_under_it(modelled: Road) -> None:
    modelled.model("other")
    about = {"tenant": modelled.tenant.name, "model": "sim"}
    modelled.services.policies.set_override(about, {"requests_per_minute": 1}, actor="test", why="a test")
    door = admission(modelled)
    eventually(lambda: len(door.plan(modelled.tenant, modelled.request()).quotas) == 3, within_s=5)  # type: ignore[union-attr]
    assert isinstance(admit(door, modelled.tenant, modelled.request()), Admitted)
    refusal = admit(door, modelled.tenant, modelled.request())
    assert isinstance(refusal, Refusal)
    assert "tenant 'acme' for model 'sim'" in refusal.message
    assert isinstance(admit(door, modelled.tenant, modelled.request(model="other")), Admitted)

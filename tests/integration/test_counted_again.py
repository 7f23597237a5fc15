"""Is what comes back into the queue counted by the quotas of its tenant, refused by none, and given back at its end?"""

from __future__ import annotations

from typing import Any

import pytest
import redis

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.quota import DAY_MS
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.spent_today import SpentToday
from qosqueue.store.usage import Usage, charge, day_of
from tests.support.batch_world import reconcile
from tests.support.killing import kill
from tests.support.road import Road

PLACES = [("vip.light", "sim")]
LIMITS = {"max_in_flight": 2, "max_queued": 2, "tokens_per_day": 10_000, "requests_per_minute": 50}


@pytest.fixture
def limited(road: Road) -> Road:
    """A road whose tenant may have two requests in flight."""
    road.model()
    road.tenant = road.services.accounts.update_tenant(road.tenant.id, actor="test", **LIMITS)
    return road


def used(road: Road, *kinds: str) -> dict[str, int]:
    """What is used of the quotas of these kinds."""
    client: Any = road.services.redis
    prefix = f"{road.services.scripts.key}:used:"
    found = {name.decode().removeprefix(prefix): client.get(name) for name in client.scan_iter(f"{prefix}*")}
    return {name: int(told.split(b":")[0]) for name, told in found.items() if not kinds or name.split(":")[0] in kinds}


def lasting(road: Road) -> dict[str, int]:
    return used(road, "flight", "queue", "day_tokens")


def serve(road: Road, tokens: int = 7) -> Delivery:
    found = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(found, Delivery)
    spent = {"tokens": tokens, "gpu_ms": 5}
    assert road.services.scripts.settle(tag=found.tag, fence=found.fence, outcome="done", spent=spent) == 1
    return found


def test_jobs_of_an_emptied_broker_are_counted_again_and_given_back_as_they_end(limited: Road) -> None:
    for _ in range(2):
        limited.submit()
    tenant = limited.tenant.id
    before = lasting(limited)
    assert (before[f"flight:t:{tenant}"], before[f"queue:t:{tenant}"], before["queue:c:vip"]) == (2, 2, 2)
    limited.services.redis.flushall()
    assert lasting(limited) == {}
    reconcile(limited)
    assert (limited.depth(), lasting(limited)) == (2, before)
    assert used(limited, "requests") == {}, "they were let in once"
    assert isinstance(limited.services.jobs.submit(limited.tenant, limited.request()), Refusal)
    reconcile(limited)
    assert lasting(limited) == before, "no look counts them twice"
    for _ in range(2):
        serve(limited)
    assert used(limited, "flight", "queue") == {}
    assert used(limited, "day_tokens") == {f"day_tokens:t:{tenant}": 14}, "what they used is settled"


def spend(road: Road, tokens: int, gpu_ms: int) -> None:
    """Enter on record what the tenant used today."""
    today = day_of(road.services.scripts.server_ms())
    with road.services.store.session() as session:
        charge(session, [Usage(today, road.tenant.id, "sim", 1, tokens, 0, gpu_ms)])


def test_an_emptied_broker_gives_nobody_a_fresh_day(limited: Road) -> None:
    job = limited.submit()
    tokens, gpu_ms = f"day_tokens:t:{limited.tenant.id}", f"day_gpu_ms:t:{limited.tenant.id}"
    estimate = lasting(limited)[tokens]
    spend(limited, 9_900, 7)
    limited.services.redis.flushall()
    reconcile(limited)
    day = used(limited, "day_tokens", "day_gpu_ms")
    assert day == {tokens: 9_900 + estimate, gpu_ms: 7}, "and what waits counts beside it"
    refused = limited.services.jobs.submit(limited.tenant, limited.request(tokens=200))
    assert isinstance(refused, Refusal)
    assert refused.code == "insufficient_quota"
    reconcile(limited)
    assert used(limited, "day_tokens", "day_gpu_ms") == day, "once"
    limited.services.jobs.cancel(limited.tenant.id, job.id)
    assert used(limited, "day_tokens") == {tokens: 9_900}


@pytest.mark.parametrize(("counted", "expected"), [(50, 70), (90, 90)])
def test_what_came_since_is_not_counted_twice(limited: Road, counted: int, expected: int) -> None:
    spend(limited, 70, 0)
    client, scripts = limited.services.redis, limited.services.scripts
    key, now = f"{scripts.key}:used:day_tokens:t:{limited.tenant.id}", scripts.server_ms()
    client.set(key, f"{counted}:{now - now % DAY_MS}")
    for _ in range(2):
        SpentToday(scripts, limited.services.usage).put_back()
        assert used(limited) == {f"day_tokens:t:{limited.tenant.id}": expected}


def test_more_than_may_be_in_flight_comes_back_all_the_same(limited: Road) -> None:
    accounts = limited.services.accounts
    jobs = [limited.submit(), limited.submit()]
    limited.tenant = accounts.update_tenant(limited.tenant.id, actor="test", max_in_flight=1, max_queued=0)
    limited.services.admission._agreements.forget()
    limited.services.redis.flushall()
    reconcile(limited)
    assert limited.depth() == 2
    assert used(limited, "flight") == {f"flight:t:{limited.tenant.id}": 2}
    assert isinstance(limited.services.jobs.submit(limited.tenant, limited.request()), Refusal)
    for job in jobs:
        limited.services.jobs.cancel(limited.tenant.id, job.id)
    assert lasting(limited) == {}


def test_what_is_replayed_is_counted_again(limited: Road) -> None:
    job = limited.submit()
    before = lasting(limited)
    kill(limited, job)
    assert lasting(limited) == {}, "a dead letter holds nothing"
    limited.services.dead_letters.replay(job.id, actor="test")
    assert lasting(limited) == before
    assert serve(limited).task == job.id
    assert used(limited, "flight", "queue") == {}


@pytest.mark.parametrize("error", [redis.ConnectionError("away"), StoreUnavailable("away")])
def test_a_replay_is_no_failure_when_it_cannot_be_counted(
    limited: Road, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job = limited.submit()
    kill(limited, job)

    def away(*_: Any) -> None:
        raise error

    monkeypatch.setattr(limited.services.admission, "count_again", away)
    limited.services.dead_letters.replay(job.id, actor="test")
    assert (limited.job(job).status, lasting(limited)) == (JobStatus.QUEUED, {})
    assert serve(limited).task == job.id


def test_what_was_let_in_and_not_sent_is_counted_once(limited: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(limited.services.jobs._publisher, "publish", lambda *_, **__: True)
        limited.submit(task_type=TaskType.BATCH)
    before = used(limited)
    assert (limited.depth(), before[f"flight:t:{limited.tenant.id}"]) == (0, 1)
    reconcile(limited)
    assert limited.depth() == 1
    after = used(limited)
    assert after.pop(f"requests:t:{limited.tenant.id}") <= before.pop(f"requests:t:{limited.tenant.id}")
    assert after == before, "it holds what its admission took"

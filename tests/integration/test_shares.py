"""Does the order keep what tenants were promised, from the moment on that it is written down?"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import redis

from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.order import Q10
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import Limit
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import Tier
from qosqueue.service import shares
from qosqueue.service.pools import pool_terms
from qosqueue.service.shares import Shares
from qosqueue.store.records import Tenant
from tests.support.road import Road

BASIC = [("basic.light", "sim")]
BUDGETS_MS = {Tier.VIP: 1_000, Tier.STANDARD: 3_000, Tier.BASIC: 10_000}


@pytest.fixture
def pooled(road: Road) -> Road:
    """A model whose pool of four slots the order knows, with services of a second."""
    road.model()
    road.services.scripts.pool("sim", pool_terms(4, 1_000, BUDGETS_MS))
    return road


def tenant(road: Road, name: str, tier: Tier = Tier.BASIC, **promised: Any) -> Tenant:
    return road.services.accounts.create_tenant(name, tier, actor="test", **promised)


def submit(road: Road, owner: Tenant, times: int = 1, tokens: int = 500) -> list[str]:
    """Submit jobs that must start within a minute; by default each takes about a second."""
    made = []
    for _ in range(times):
        job = road.services.jobs.submit(owner, road.request(tokens=tokens, latency_budget_ms=60_000))
        assert not isinstance(job, Refusal), job
        made.append(job.id)
    return made


def message(road: Road, task: str) -> dict[str, str]:
    client, key = road.services.redis, road.services.scripts.key
    tag: Any = client.hget(f"{key}:tasks", task)
    fields: Any = client.hgetall(f"{key}:msg:{tag.decode()}")
    return {name.decode(): value.decode() for name, value in fields.items()}


def pick(road: Road) -> Delivery | None:
    found = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=BASIC)
    return found if isinstance(found, Delivery) else None


def pick_all(road: Road) -> list[str]:
    tasks = []
    while (found := pick(road)) is not None:
        tasks.append(found.task)
    return tasks


def test_a_tenant_that_is_made_or_changed_counts_at_once(road: Road) -> None:
    scripts = road.services.scripts
    plain = tenant(road, "plain")
    assert (scripts.shares(), scripts.limits()) == ({}, {}), "it has its tier's: nothing to tell"
    heavy = tenant(road, "heavy", weight=2, max_running=3)
    assert scripts.shares() == {heavy.id: Share(steepness_q10=512)}
    assert scripts.limits() == {f"t:{heavy.id}": Limit(3)}
    road.services.accounts.update_tenant(plain.id, actor="test", contracted_percent=25, max_running=0)
    road.services.accounts.update_tenant(heavy.id, actor="test", weight=None, max_running=None)
    assert scripts.shares() == {plain.id: Share(contract_q10=256)}
    assert scripts.limits() == {f"t:{plain.id}": Limit(0)}


def test_an_organisation_is_promised_what_its_tenants_are_together(road: Road) -> None:
    scripts, accounts = road.services.scripts, road.services.accounts
    one = tenant(road, "one", Tier.VIP, organisation="both", contracted_percent=10)
    tenant(road, "two", Tier.BASIC, organisation="both", contracted_percent=15, weight=8)
    assert scripts.shares() == {"both": Share(contract_q10=256, steepness_q10=(8 + 1) * Q10 // (8 + 8))}
    accounts.update_tenant(one.id, actor="test", organisation=None)
    assert scripts.shares() == {
        "both": Share(contract_q10=15 * Q10 // 100, steepness_q10=Q10 // 8),
        one.id: Share(contract_q10=102),
    }
    accounts.update_tenant("two", actor="test", organisation=None, contracted_percent=0, weight=None)
    assert scripts.shares() == {one.id: Share(contract_q10=102)}, "an organisation without tenants is forgotten"


def test_a_sweep_heals_an_emptied_broker_and_writes_nothing_twice(road: Road) -> None:
    services = road.services
    made = tenant(road, "acme corp", contracted_percent=50, max_running=2)
    services.redis.flushall()
    healed = services.watchdog.age().outcome
    assert (healed["shares"], healed["limits"]) == ([made.id], [f"t:{made.id}"])
    assert services.scripts.shares() == {made.id: Share(contract_q10=512)}
    again = services.watchdog.age().outcome
    assert (again["shares"], again["limits"]) == ([], [])


def test_stale_entries_go_and_those_of_others_stay(road: Road) -> None:
    scripts = road.services.scripts
    scripts.share("gone", Share(contract_q10=99))
    for name, for_ms in {
        "t:ten_" + "0" * 24: 0,
        "t:a host's": 0,
        "l:vip.light": 0,
        f"t:{road.tenant.id}": 60_000,
    }.items():
        scripts.limit(name=name, most=1, for_ms=for_ms)
    swept = road.services.watchdog.age().outcome
    assert (swept["shares"], swept["limits"]) == (["gone"], ["t:ten_" + "0" * 24])
    assert set(scripts.limits()) == {"t:a host's", "l:vip.light", f"t:{road.tenant.id}"}
    scripts.limit(name=f"t:{road.tenant.id}", most=1, for_ms=1, now_ms=1)
    assert road.services.watchdog.age().outcome["limits"] == [], "the order forgets by itself what has ended"
    assert set(scripts.limits()) == {"t:a host's", "l:vip.light"}


def test_a_change_while_the_broker_is_away_is_kept_and_counts_with_the_next_sweep(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts, accounts = road.services.scripts, road.services.accounts

    def away() -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(scripts, "shares", away)
        assert accounts.update_tenant("acme", actor="test", contracted_percent=50).contracted_percent == 50
        with pytest.raises(BrokerUnavailable, match="away"):
            Shares(scripts, road.services.store).refresh()
    assert scripts.shares() == {}
    assert road.services.watchdog.age().outcome["shares"] == [road.tenant.id]


def test_tenants_of_one_organisation_count_together_from_the_door_on(pooled: Road) -> None:
    shards = [tenant(pooled, f"shard {number}", organisation="flooder") for number in range(4)]
    alone = tenant(pooled, "alone")
    flood = [task for shard in shards for task in submit(pooled, shard, 6, tokens=60_000)]
    assert message(pooled, flood[0])["organisation"] == "flooder"
    (quiet,) = submit(pooled, alone, tokens=60_000)
    assert message(pooled, quiet)["penalty"] == "0"
    assert int(message(pooled, flood[-1])["penalty"]) > 0, "each shard alone would not be beyond its allowance"
    order = pick_all(pooled)
    assert order.index(quiet) < len(flood) / 2


def test_a_cap_holds_for_queued_work_at_once(pooled: Road) -> None:
    capped = tenant(pooled, "capped")
    submit(pooled, capped, 3)
    pooled.services.accounts.update_tenant(capped.id, actor="test", max_running=1)
    assert len(pick_all(pooled)) == 1
    pooled.services.accounts.update_tenant(capped.id, actor="test", max_running=2)
    assert len(pick_all(pooled)) == 1
    pooled.services.accounts.update_tenant(capped.id, actor="test", max_running=None)
    assert len(pick_all(pooled)) == 1


def test_a_contract_protects_and_counts_for_queued_work_at_once(pooled: Road) -> None:
    loud, sure = tenant(pooled, "loud"), tenant(pooled, "sure")
    noise = submit(pooled, loud, 6, tokens=5_000)
    mine = submit(pooled, sure, 2, tokens=8_000)
    assert {message(pooled, task)["in_profile"] for task in mine} == {"0"}
    scores = {task: int(message(pooled, task)["score"]) for task in (*noise, *mine)}
    assert max(scores, key=scores.__getitem__) in mine, "the larger work comes later"
    changed = pooled.services.accounts.update_tenant(sure.id, actor="test", contracted_percent=90)
    assert changed.contracted_percent == 90
    assert {message(pooled, task)["in_profile"] for task in mine} == {"1"}
    assert pick_all(pooled)[:2] == mine


def test_what_a_process_left_undone_is_charged_by_the_next_sweep(pooled: Road) -> None:
    services = pooled.services
    sure = tenant(pooled, "sure")
    (task,) = submit(pooled, sure)
    services.scripts.share(sure.id, Share(contract_q10=921))
    with services.store.session() as session:
        session.connection().exec_driver_sql("UPDATE tenants SET contracted_percent = 90 WHERE name = 'sure'")
    services.redis.sadd(f"{services.scripts.key}:recharge", sure.id)
    assert message(pooled, task)["in_profile"] == "0"
    assert services.watchdog.age().outcome["shares"] == []
    assert message(pooled, task)["in_profile"] == "1"
    assert services.redis.exists(f"{services.scripts.key}:recharge") == 0


def test_whoever_changes_a_tenant_waits_for_a_part_of_its_queue_only(
    pooled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "RECHARGED_AT_ONCE", 2)
    services, sure = pooled.services, tenant(pooled, "sure")
    queued = submit(pooled, sure, 7, tokens=1_000)

    def charged() -> list[bool]:
        return [message(pooled, task)["score"] != before for task, before in scores.items()]

    scores = {task: message(pooled, task)["score"] for task in queued}
    services.accounts.update_tenant(sure.id, actor="test", contracted_percent=100)
    assert charged() == [True] * 4 + [False] * 3, "the first that would run"
    services.watchdog.age()
    assert charged() == [True] * 7
    assert services.redis.exists(f"{services.scripts.key}:recharge") == 0


def test_a_request_says_its_organisation_as_the_record_has_it(pooled: Road) -> None:
    moved = dataclasses.replace(tenant(pooled, "moved"), organisation="group")
    (task,) = submit(pooled, moved)
    assert (message(pooled, task)["tenant"], message(pooled, task)["organisation"]) == (moved.id, "group")

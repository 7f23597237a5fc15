"""Do finished requests teach the budgets of their scenarios, once each, within the bounds, whoever runs it?"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qosqueue.policy.terms import TaskType
from qosqueue.service.accounts import Accounts
from qosqueue.service.agreements import Agreements
from qosqueue.service.catalog import Catalog
from qosqueue.service.learning import SETTLED_MS, Learning
from qosqueue.service.policies import Policies
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Scenario, Tenant
from qosqueue.store.session import Store
from tests.support.jobs import a_job
from tests.support.manual_clock import ManualClock
from tests.support.policy_world import furnish
from tests.support.road import Road

pytest_plugins = ["tests.support.record"]
NOW_MS = 1_700_000_000_000


@pytest.fixture
def acme(record: Store) -> Tenant:
    furnish(record)
    return Accounts(record).get_tenant("acme")


def finished(store: Store, tenant: Tenant, *began_ms: int, ended_ms: int = NOW_MS - 10_000, **changes: Any) -> None:
    """Finished jobs that began so long after they came; each ends a ms after the one before."""
    rows = []
    for number, began in enumerate(began_ms):
        job = a_job(
            tenant.id, id=f"job_{ended_ms + number}_{began}", model="small", task_type=TaskType.ASYNC,
            status="succeeded", created_ms=ended_ms - 100_000, first_token_ms=ended_ms - 100_000 + began,
            finished_ms=ended_ms + number,
        )  # fmt: skip
        rows.append(dataclasses.asdict(dataclasses.replace(job, **changes)))
    JobRecord(store).insert(rows)


def learned(store: Store) -> Scenario:
    (scenario,) = [each for each in Agreements(store).scenarios() if each.observed]
    return scenario


def test_a_budget_follows_what_was_seen_and_each_request_teaches_once(record: Store, acme: Tenant) -> None:
    learning = Learning(record, clock_ms=lambda: NOW_MS)
    finished(record, acme, *[3_000] * 400)
    assert learning.learn() == [f"{acme.id}/small/async"]
    first = learned(record)
    assert (first.observed, first.seen_ms) == (400, NOW_MS - 10_000 + 399)
    assert 3_000 <= (first.budget_ms or 0) < 5_000, "on its way from the default of 5 s"
    assert learning.learn() == []
    assert learned(record) == first
    finished(record, acme, *[3_000] * 900, ended_ms=NOW_MS - 5_000)
    learning.learn()
    assert (learned(record).budget_ms, learned(record).observed) == (3_000, 1_300)
    assert Agreements(record).default_budget_ms(acme, "small", TaskType.ASYNC) == 3_000


def test_bounds_hold_while_it_learns_and_when_they_come_later(record: Store, acme: Tenant) -> None:
    finished(record, acme, *[1] * 900)
    Learning(record, clock_ms=lambda: NOW_MS).learn()
    assert learned(record).budget_ms == 2_500, "half the default, where the operator set no bound"
    about = {"tenant": "acme", "model": "small", "task_type": "async"}
    Policies(record).bound_scenario(about, {"upper_ms": 1_000}, actor="a", why="b")
    assert Agreements(record).default_budget_ms(acme, "small", TaskType.ASYNC) == 1_000
    assert learned(record).observed == 900, "what was learned stays"


def test_only_what_ended_well_and_a_while_ago_teaches(record: Store, acme: Tenant) -> None:
    finished(record, acme, 9_000, status="failed", id="job_a")
    finished(record, acme, 9_000, ended_ms=NOW_MS - SETTLED_MS + 1, id="job_b")
    finished(record, acme, 9_000, model="gone", id="job_c")
    finished(record, acme, 9_000, first_token_ms=None, id="job_d")
    clock = ManualClock()
    clock.ms = NOW_MS
    learning = Learning(record, clock_ms=clock)
    assert learning.learn() == []
    assert Agreements(record).scenarios() == []
    clock.ms += 1
    assert learning.learn() == [f"{acme.id}/small/async"]


def test_several_that_learn_at_once_learn_once(record: Store, acme: Tenant) -> None:
    finished(record, acme, *[7_000] * 50)
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(Learning(record, clock_ms=lambda: NOW_MS).learn) for _ in range(4)]:
            done.result()
    assert learned(record).observed == 50


def test_a_removed_model_takes_what_was_learned_with_it(record: Store, acme: Tenant) -> None:
    finished(record, acme, 1)
    Learning(record, clock_ms=lambda: NOW_MS).learn()
    Catalog(record).remove_model("small", actor="a")
    assert Agreements(record).scenarios() == []


def test_the_watchdog_learns_and_leaves_a_record(road: Road) -> None:
    road.model()
    finished(road.services.store, road.tenant, 9_000, model="sim", ended_ms=road.services.scripts.server_ms() - 60_000)
    run = road.services.watchdog.learn()
    assert run.outcome == {"scenarios": [f"{road.tenant.id}/sim/async"]}
    assert road.services.watchdog.runs(1)[0].task == "learn"

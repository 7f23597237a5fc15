"""Does a change of the policy reach every process and what is queued, and does the last known outlive the record?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.agreement import Bound
from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType, Tier
from qosqueue.service.accounts import Accounts
from qosqueue.service.agreements import Agreements
from qosqueue.service.catalog import Catalog
from qosqueue.service.policies import Policies
from qosqueue.service.policy_file import parse
from qosqueue.store.session import Store, open_store
from tests.support.eventually import eventually
from tests.support.instance import environment
from tests.support.manual_clock import ManualClock
from tests.support.policy_world import furnish
from tests.support.road import Road
from tests.support.tables import make_tables

HOW = {"actor": "cli:anna", "why": "a test"}
FILE = """
schema = 1
[tenants.acme]
tier = "vip"
max_queued = 1
max_running = 0
[[overrides]]
model = "sim"
tokens_per_day = 77
[[scenarios]]
tenant = "acme"
model = "sim"
task_type = "async"
lower_ms = 9000
upper_ms = 9000
"""
# Looks at everything that admission looks at, as often as it may, and says what it sees whenever that changes.
WATCHER = """
import sys
from qosqueue.policy.terms import TaskType
from qosqueue.settings import load_settings
from qosqueue.wiring import build
services, before = build(load_settings()), None
while True:
    tenant = services.accounts.authenticate(sys.argv[1])
    seen = None
    if tenant is not None:
        bounds = services.agreements.of(tenant, "sim", TaskType.ASYNC).bounds
        budget = services.agreements.default_budget_ms(tenant, "sim", TaskType.ASYNC)
        enabled = services.catalog.get_model("sim").enabled
        seen = (tenant.tier.value, tenant.max_queued, [(each.limit, each.most) for each in bounds], budget, enabled)
    if seen != before:
        print(seen, flush=True)
        before = seen
"""


def test_a_file_that_is_applied_here_counts_in_another_process_and_for_what_is_queued(
    road: Road, tmp_path: Path
) -> None:
    road.model()
    services = road.services
    key = services.accounts.create_key("acme", actor="a").key
    told = tmp_path / "told"
    settings: dict[str, Any] = {
        name: str(value)
        for name in road.settings.model_fields_set
        if (value := getattr(road.settings, name)) is not None
    }
    with told.open("w") as out:
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCHER, key],
            env=environment(**settings | {"home": road.settings.home}),
            stdout=out,
        )
    try:
        eventually(lambda: told.read_text().count("\n") == 1, within_s=30)
        assert told.read_text() == "('vip', None, [], 2000, True)\n"
        job = road.submit()
        services.policies.apply(parse(FILE), **HOW)
        assert services.scripts.limits()[f"t:{road.tenant.id}"].most == 0, "the order knows before the call returns"
        picked = services.scripts.dispatch(lease_ms=1_000, holder="x", places=[("vip.light", "sim")])
        assert not isinstance(picked, Delivery), "none of its requests may run any more"
        assert road.job(job).status == "queued"
        last = "('vip', 1, [('max_queued', 1), ('tokens_per_day', 77)], 9000, True)"
        eventually(lambda: told.read_text().splitlines()[-1] == last, within_s=10)
        services.policies.rollback(services.policies.versions.list(2)[1].number, **HOW)
        eventually(lambda: told.read_text().splitlines()[-1] == "('vip', None, [], 2000, True)", within_s=10)
        assert f"t:{road.tenant.id}" not in services.scripts.limits()
        services.accounts.update_tenant("acme", actor="a", enabled=False)
        eventually(lambda: told.read_text().splitlines()[-1] == "None", within_s=10)
    finally:
        watcher.kill()
        watcher.wait()


def test_a_request_without_a_budget_gets_that_of_its_scenario(road: Road) -> None:
    road.model()
    assert road.submit().latency_budget_ms == DEFAULT_BUDGET_MS[TaskType.ASYNC][Tier.VIP]
    unlimited = FILE.replace("max_running = 0", "").replace("max_queued = 1", "").replace("= 77", "= 77_000")
    road.services.policies.apply(parse(unlimited), **HOW)
    road.tenant = road.services.accounts.get_tenant("acme")
    assert road.submit().latency_budget_ms == 9_000
    assert road.submit(latency_budget_ms=50).latency_budget_ms == 50
    road.services.policies.set_override({"task_type": "online"}, {"online_target_ms": 70}, **HOW)
    plan = road.services.admission.plan(road.tenant, road.request(TaskType.ONLINE))
    assert not isinstance(plan, Refusal)
    assert (plan.profile.latency_budget_ms, plan.profile.latency_class) == (70, "high")


@pytest.fixture
def store(sqlite_url: str) -> Store:
    make_tables(sqlite_url)
    store = open_store(sqlite_url)
    furnish(store)
    return store


def test_every_part_of_the_policy_is_at_most_a_second_old(store: Store) -> None:
    clock = ManualClock()
    key = Accounts(store).create_key("acme", actor="a").key
    here = (Accounts(store), Catalog(store), Policies(store))
    there = tuple(kind(store, monotonic_clock_ms=clock) for kind in (Accounts, Catalog, Agreements))

    def seen() -> tuple[Any, ...]:
        tenant = there[0].authenticate(key)
        assert tenant is not None
        bounds = there[2].of(tenant, "small", TaskType.BATCH).bounds
        budget_ms = there[2].default_budget_ms(tenant, "small", TaskType.BATCH)
        return tenant.max_queued, bounds[1:], budget_ms, there[1].get_model("small").enabled

    before = seen()
    here[0].update_tenant("acme", actor="a", max_queued=5, requests_per_minute=None)
    here[1].update_model("small", actor="a", enabled=False)
    here[2].set_override({"task_type": "batch"}, {"max_in_flight": 4}, **HOW)
    here[2].bound_scenario({"tenant": "acme", "model": "small", "task_type": "batch"}, {"upper_ms": 7}, **HOW)
    clock.ms += 999
    assert seen() == before
    clock.ms += 1
    assert seen() == (5, (Bound("max_in_flight", 4, None, TaskType.BATCH),), 7, False)
    store.close()


def test_with_the_record_away_the_last_known_policy_serves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    tenant = Accounts(store).get_tenant("acme")
    Policies(store).set_override({"model": "small"}, {"max_in_flight": 4}, **HOW)
    about = {"tenant": "acme", "model": "small", "task_type": "batch"}
    Policies(store).bound_scenario(about, {"upper_ms": 7}, **HOW)
    agreements, blank = (Agreements(store, monotonic_clock_ms=clock) for _ in range(2))
    known = agreements.of(tenant, "small", TaskType.BATCH)
    assert agreements.default_budget_ms(tenant, "small", TaskType.BATCH) == 7

    def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "session", away)
    clock.ms += 300_000
    assert agreements.of(tenant, "small", TaskType.BATCH) == known
    assert agreements.default_budget_ms(tenant, "small", TaskType.BATCH) == 7
    unseen = agreements.default_budget_ms(tenant, "small", TaskType.ASYNC)
    assert unseen == DEFAULT_BUDGET_MS[TaskType.ASYNC][Tier.STANDARD], "a scenario that was never asked for"
    with pytest.raises(StoreUnavailable):
        blank.of(tenant, "small", TaskType.BATCH)
    monkeypatch.undo()
    store.close()

"""Does every change of the policy leave a version, whole and in its own transaction, and does an old one come back?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from qosqueue.errors import Conflict, InvalidField, InvalidPolicy, NotFound
from qosqueue.policy.terms import OnLate
from qosqueue.service import policy_versions
from qosqueue.service.accounts import Accounts
from qosqueue.service.audit import Audit
from qosqueue.service.catalog import Catalog
from qosqueue.service.policies import Policies
from qosqueue.service.policy_file import parse, written
from qosqueue.store.records import Model
from qosqueue.store.session import Store
from qosqueue.store.tables import PolicyVersionRow, ScenarioRow
from tests.support.policy_world import FILE, furnish

pytest_plugins = ["tests.support.record"]
HOW = {"actor": "cli:anna", "why": "a test"}


@pytest.fixture
def policies(record: Store) -> Policies:
    furnish(record)
    return Policies(record)


def numbers(policies: Policies) -> list[int]:
    return [version.number for version in policies.versions.list()]


def test_each_change_through_page_or_command_is_a_version_with_who_and_why(record: Store) -> None:
    accounts, catalog, policies = Accounts(record), Catalog(record), Policies(record)
    accounts.create_tenant("acme", "vip", actor="cli:anna")
    accounts.update_tenant("acme", actor="user:root", why="they pay more", max_queued=9, on_late="defer")
    catalog.add_model("m", "e", actor="cli:anna", memory_bytes=1, context_tokens=1, slots=1)
    catalog.update_model("m", actor="cli:anna", enabled=False)
    catalog.remove_model("m", actor="cli:anna")
    found = policies.versions.list()
    assert [(each.number, each.actor, each.source, each.why) for each in found] == [
        (6, "cli:anna", "command", "model m removed"),
        (5, "cli:anna", "command", "model m: enabled"),
        (4, "cli:anna", "command", "model m added"),
        (3, "user:root", "page", "they pay more"),
        (2, "cli:anna", "command", "tenant acme made"),
        (1, "system:record", "command", policy_versions.BEFORE_ANY),
    ]
    tenant = policies.document_of(3)["tenants"]["acme"]
    assert (tenant["max_queued"], tenant["on_late"], tenant["source"]) == (9, OnLate.DEFER, "page")
    assert [(each.key, each.before, each.after) for each in policies.changed_in(3) or []] == [
        ("tenants.acme.max_queued", None, 9), ("tenants.acme.on_late", None, "defer"),
    ]  # fmt: skip
    assert found[3].at_ms >= found[4].at_ms > 0


def test_a_change_of_nothing_and_a_change_that_failed_leave_no_version(
    policies: Policies, record: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = numbers(policies)
    accounts = Accounts(record)
    accounts.update_tenant("acme", actor="cli:anna", requests_per_minute=60)
    accounts.create_key("acme", actor="cli:anna")
    with pytest.raises(Conflict):
        accounts.create_tenant("beta", "vip", actor="cli:anna")
    for why in ("two\nlines", "x" * 501, "\0"):
        with pytest.raises(InvalidField, match="why: expected one line of at most 500 characters"):
            accounts.update_tenant("acme", actor="cli:anna", why=why, max_queued=1)

    class Broken(Exception):
        pass

    def broken(*_given: object, **_named: object) -> None:
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(policy_versions, "_add", broken)
        with pytest.raises(Broken):
            accounts.update_tenant("acme", actor="cli:anna", max_queued=1)
    assert numbers(policies) == before
    assert accounts.get_tenant("acme").max_queued is None, "no change without its version"


def test_changes_at_once_are_versions_one_after_the_other(policies: Policies, record: Store) -> None:
    accounts, first = Accounts(record), numbers(policies)[0]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda most: accounts.update_tenant("acme", actor="a", max_queued=most), range(1, 13)))
    assert numbers(policies)[:13] == list(range(first + 12, first - 1, -1))
    changes = [policies.changed_in(number) for number in range(first + 1, first + 13)]
    steps = [(change[0].before, change[0].after) for change in changes if change]
    assert [before for before, _ in steps] == [None, *[after for _, after in steps[:-1]]], "one chain"


def test_old_versions_keep_who_and_why_only(policies: Policies, record: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_versions, "KEEP_DOCUMENTS", 3)
    for most in (1, 2):
        Accounts(record).update_tenant("acme", actor="a", max_queued=most)
    newest = numbers(policies)[0]
    with record.session() as session:
        kept = session.scalars(select(PolicyVersionRow.number).where(PolicyVersionRow.document.is_not(None))).all()
    assert sorted(kept) == [newest - 2, newest - 1, newest]
    assert policies.versions.get(1).why == policy_versions.BEFORE_ANY
    assert policies.changed_in(2) is None
    with pytest.raises(Conflict, match="policy version 1 is too old"):
        policies.rollback(1, **HOW)
    with pytest.raises(NotFound, match="no policy version 99"):
        policies.rollback(99, **HOW)


def test_a_file_is_applied_whole_and_shows_as_the_source(policies: Policies, record: Store) -> None:
    accounts, catalog = Accounts(record), Catalog(record)
    acme = accounts.get_tenant("acme")
    planned = policies.check(parse(FILE))
    asked: list[Model] = []
    outcome = policies.apply(parse(FILE), **HOW, approve=asked.append)
    assert outcome.differences == planned
    assert policies.check(parse(FILE)) == []
    changed = accounts.get_tenant("acme")
    assert (changed.id, changed.tier, changed.weight, changed.tokens_per_day) == (acme.id, "vip", 8, 5000)
    assert (changed.requests_per_minute, changed.source) == (None, "file"), "what a file leaves out is not set"
    assert (accounts.get_tenant("New Corp").source, accounts.get_tenant("beta").source) == ("file", "page")
    assert catalog.get_model("small").fallback_model == "other"
    assert sorted(model.name for model in asked) == ["other", "small"], "what stays needs no engine"
    version = policies.versions.list(1)[0]
    assert (version.number, version.source, version.actor, version.why) == (outcome.version, "file", *HOW.values())
    actions = {entry.action for entry in Audit(record).list() if entry.actor == "cli:anna"}
    assert actions == {"tenant.update", "tenant.create", "model.update", "model.add", "override.set", "scenario.set"}
    again = policies.apply(parse(FILE), **HOW)
    assert (again.differences, again.version) == ([], version.number), "nothing new, no version"


def test_what_a_later_file_lets_go_is_out_of_use_and_not_gone(policies: Policies, record: Store) -> None:
    policies.apply(parse(FILE), **HOW)
    key = Accounts(record).create_key("New Corp", actor="a").key
    policies.apply(parse("schema = 1"), **HOW)
    accounts = Accounts(record)
    assert not accounts.get_tenant("New Corp").enabled
    assert accounts.authenticate(key) is None
    assert not Catalog(record).get_model("other").enabled
    assert accounts.get_tenant("beta").enabled, "made in a page"
    assert (policies.current()["overrides"], policies.current()["scenarios"]) == ([], [])


def test_a_rollback_brings_back_an_old_version_as_a_new_one(policies: Policies, record: Store) -> None:
    before = numbers(policies)[0]
    old = policies.current()
    policies.apply(parse(FILE), **HOW)
    Accounts(record).update_tenant("beta", actor="a", name="gamma")
    with record.session() as session:
        session.scalars(select(ScenarioRow)).one().budget_ms = 222
    key = Accounts(record).create_key("New Corp", actor="a").key
    assert policies.check_rollback(before) == (outcome := policies.rollback(before, **HOW)).differences
    assert outcome.version == before + 3
    now = policies.current()
    disabled = {name: entry | {"enabled": False} for name, entry in now["tenants"].items() if name == "New Corp"}
    assert now["tenants"] == old["tenants"] | disabled, "gamma is beta again"
    assert now["models"]["small"] == old["models"]["small"]
    assert not now["models"]["other"]["enabled"]
    assert (now["overrides"], now["scenarios"]) == ([], [])
    assert Accounts(record).authenticate(key) is None
    with record.session() as session:
        assert session.scalars(select(ScenarioRow)).one().budget_ms == 222, "what was learned is no policy"
    forth = policies.rollback(before + 2, **HOW)
    assert forth.version == before + 4
    assert policies.current() == policies.document_of(before + 2)
    assert Accounts(record).authenticate(key) is not None


def test_the_reason_of_a_rollback_has_room_for_the_version_that_it_names(policies: Policies) -> None:
    before = numbers(policies)[0]
    policies.apply(parse(FILE), **HOW)
    room = 500 - len(f"back to version {before}: ")
    with pytest.raises(InvalidField, match=f"why: expected one line of at most {room} characters"):
        policies.rollback(before, actor="a", why="x" * (room + 1))
    policies.rollback(before, actor="a", why="x" * room)
    assert len(policies.versions.list(1)[0].why) == 500


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("contracted_percent = 30", "contracted_percent = 61"), "tenants.New Corp.contracted_percent: expected at mo"),
        (('fallback_model = "other"', 'fallback_model = "nobody"'), "models.small.fallback_model: expected another m"),
        (('fallback_model = "other"', 'fallback_model = "small"'), "models.small.fallback_model: expected another m"),
        (
            ('tenant = "acme"', 'tenant = "nobody"'),
            "scenarios[tenant=nobody model=small task_type=async].tenant: expected a tenant of the policy",
        ),
        (
            ('model = "small"\nmax_queued', 'model = "none"\nmax_queued'),
            "overrides[tenant=New Corp model=none].model: expected a model of the policy, got 'none'",
        ),
    ],
)
def test_a_policy_that_cannot_hold_changes_nothing(policies: Policies, changed: tuple[str, str], told: str) -> None:
    before, held = policies.current(), numbers(policies)
    file = parse(FILE.replace(*changed))
    for attempt in (policies.check, lambda document: policies.apply(document, **HOW)):
        with pytest.raises(InvalidPolicy) as refused:
            attempt(file)
        assert str(refused.value).startswith(told)
    assert (policies.current(), numbers(policies)) == (before, held)


def test_a_name_that_was_taken_since_stops_a_rollback(policies: Policies, record: Store) -> None:
    before, accounts = numbers(policies)[0], Accounts(record)
    accounts.update_tenant("acme", actor="a", name="was acme")
    accounts.create_tenant("acme", "basic", actor="a")
    held = policies.current()
    with pytest.raises(Conflict, match="rename it first"):
        policies.rollback(before, **HOW)
    assert policies.current() == held


def test_overrides_and_bounds_are_set_amended_and_taken_away(policies: Policies) -> None:
    about = {"tenant": "acme", "model": "small"}
    policies.set_override(about, {"max_queued": 3, "road": ["retry"]}, **HOW)
    policies.set_override(about, {"max_queued": None, "tokens_per_day": 8}, **HOW)
    assert policies.current()["overrides"] == [about | {"tokens_per_day": 8, "road": ["retry"], "source": "command"}]
    policies.set_override(about, {"tokens_per_day": None, "road": None}, **HOW)
    assert policies.current()["overrides"] == []
    scenario = about | {"task_type": "async"}
    policies.bound_scenario(scenario, {"lower_ms": 5}, **HOW)
    assert policies.current()["scenarios"] == [scenario | {"lower_ms": 5, "source": "command"}]
    for wrong, values in (
        ({"tenant": "acme"}, {"max_queued": 3}),
        (about, {"max_queued": -1}),
        (about, {"max_queued": None}),
        (about, {"weight": 1}),
        ({"model": "nobody"}, {"max_queued": 1}),
    ):
        with pytest.raises(InvalidPolicy):
            policies.set_override(wrong, values, **HOW)
    with pytest.raises(InvalidPolicy, match="lower_ms: expected at most the upper bound"):
        policies.bound_scenario(scenario, {"upper_ms": 4}, **HOW)
    policies.bound_scenario(scenario, {"lower_ms": None}, **HOW)
    assert policies.current()["scenarios"] == []


def test_an_exported_policy_applies_to_an_empty_record(policies: Policies, record: Store, tmp_path: object) -> None:
    policies.apply(parse(FILE), **HOW)
    exported = policies.current()
    document = parse(written(exported))
    assert policies.check(document) == [], "it says what holds already"
    assert {name: entry["tier"] for name, entry in document["tenants"].items()} == {
        name: entry["tier"] for name, entry in exported["tenants"].items()
    }

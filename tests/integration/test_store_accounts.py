"""Are tenants and keys kept, changed, audited and revoked as promised, on both databases?"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.policy.terms import Tier
from qosqueue.service import audit
from qosqueue.service.accounts import Accounts
from qosqueue.service.audit import Audit
from qosqueue.store.records import Tenant
from qosqueue.store.seed import TIER_DEFAULTS
from qosqueue.store.session import Store
from qosqueue.store.tables import KeyRow
from tests.support.manual_clock import ManualClock

pytest_plugins = ["tests.support.record"]

ACTOR = "cli:tester"


@pytest.fixture
def accounts(record: Store) -> Accounts:
    return Accounts(record)


def everything(store: Store) -> str:
    """The whole record as text."""
    metadata = MetaData()
    metadata.reflect(store.engine)
    with store.session() as session:
        return "\n".join(
            str(tuple(row)) for table in metadata.sorted_tables for row in session.execute(select(table)).all()
        )


def test_a_tenant_is_kept_with_all_that_was_given(accounts: Accounts) -> None:
    made = accounts.create_tenant(
        "Acme Corp",
        Tier.VIP,
        actor=ACTOR,
        weight=3,
        online_target_ms=200,
        success_target_percent=99,
        requests_per_minute=600,
        tokens_per_minute=10**12,
    )
    assert made.tier is Tier.VIP
    assert (made.weight, made.online_target_ms, made.tokens_per_minute, made.enabled) == (3, 200, 10**12, True)
    assert made.id.startswith("ten_")
    assert made.created_ms == made.updated_ms
    assert accounts.get_tenant("Acme Corp") == made
    assert accounts.get_tenant(made.id) == made
    assert accounts.list_tenants() == [made]


@pytest.mark.parametrize("tier", list(Tier))
def test_without_a_weight_it_gets_the_one_of_its_tier(accounts: Accounts, tier: Tier) -> None:
    assert accounts.create_tenant("a", tier, actor=ACTOR).weight == TIER_DEFAULTS[tier].weight


def test_a_name_is_taken_once_and_the_second_try_leaves_no_trace(accounts: Accounts, record: Store) -> None:
    accounts.create_tenant("a", "vip", actor=ACTOR)
    accounts.create_tenant("b", "vip", actor=ACTOR)
    with pytest.raises(Conflict, match="name: a tenant named 'a' exists already"):
        accounts.create_tenant("a", "basic", actor=ACTOR)
    with pytest.raises(Conflict, match="'a'"):
        accounts.update_tenant("b", actor=ACTOR, name="a")
    assert [tenant.name for tenant in accounts.list_tenants()] == ["a", "b"]
    assert [entry.action for entry in Audit(record).list()] == ["tenant.create", "tenant.create"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a{b}"),
        ("name", ""),
        ("tier", "gold"),
        ("weight", 0),
        ("weight", 1_001),
        ("online_target_ms", 0),
        ("online_target_ms", 86_400_001),
        ("success_target_percent", 101),
        ("requests_per_minute", -1),
        ("requests_per_minute", True),
        ("tokens_per_minute", 1.5),
        ("organisation", "a{b}"),
        ("organisation", "ten_" + "0" * 24),
        ("contracted_percent", 101),
        ("contracted_percent", -1),
        ("max_running", -1),
    ],
)
def test_a_value_out_of_range_is_refused_and_nothing_is_kept(
    accounts: Accounts, record: Store, field: str, value: object
) -> None:
    given: dict[str, object] = {"name": "a", "tier": "vip", field: value}
    with pytest.raises(InvalidField) as refused:
        accounts.create_tenant(actor=ACTOR, **given)  # type: ignore[arg-type]
    assert (refused.value.field, refused.value.got) == (field, value)
    kept = accounts.create_tenant("kept", "vip", actor=ACTOR)
    with pytest.raises(InvalidField, match=f"{field}: expected"):
        accounts.update_tenant("kept", actor=ACTOR, **{field: value})
    assert accounts.list_tenants() == [kept]
    assert len(Audit(record).list()) == 1


def test_contracts_come_to_a_hundred_percent_at_most(accounts: Accounts, record: Store) -> None:
    accounts.create_tenant("a", "vip", actor=ACTOR, contracted_percent=60)
    accounts.create_tenant("b", "vip", actor=ACTOR)
    told = r"contracted_percent: expected at most 40 \(other tenants' contracts come to 60\), got 41"
    with pytest.raises(InvalidField, match=told):
        accounts.create_tenant("c", "basic", actor=ACTOR, contracted_percent=41)
    with pytest.raises(InvalidField, match=told):
        accounts.update_tenant("b", actor=ACTOR, contracted_percent=41)
    accounts.update_tenant("b", actor=ACTOR, contracted_percent=40)
    assert accounts.update_tenant("a", actor=ACTOR, contracted_percent=50).contracted_percent == 50, (
        "its own counts once"
    )
    accounts.update_tenant("a", actor=ACTOR, contracted_percent=None)
    assert accounts.update_tenant("b", actor=ACTOR, contracted_percent=100).contracted_percent == 100
    assert [tenant.name for tenant in accounts.list_tenants()] == ["a", "b"]


def test_two_contracts_given_at_once_do_not_both_find_room(accounts: Accounts) -> None:
    names = "abcdefgh"
    for name in names:
        accounts.create_tenant(name, "vip", actor=ACTOR)

    def give(name: str) -> bool:
        try:
            accounts.update_tenant(name, actor=ACTOR, contracted_percent=30)
        except InvalidField:
            return False
        return True

    with ThreadPoolExecutor(len(names)) as threads:
        assert sum(threads.map(give, names)) == 3


def test_whoever_listens_is_told_of_each_change(record: Store) -> None:
    told: list[Tenant] = []
    accounts = Accounts(record, tell=told.append)
    made = accounts.create_tenant("a", "vip", actor=ACTOR)
    changed = accounts.update_tenant("a", actor=ACTOR, organisation="both", max_running=0)
    assert told == [made, changed]
    assert (made.counts_as, changed.counts_as) == (made.id, "both")


def test_a_field_that_no_one_may_change_is_refused(accounts: Accounts) -> None:
    made = accounts.create_tenant("a", "vip", actor=ACTOR)
    for field in ("id", "created_ms", "priority"):
        with pytest.raises(InvalidField, match=f"{field}: expected one of name, tier, weight"):
            accounts.update_tenant("a", actor=ACTOR, **{field: 1})
    assert accounts.get_tenant("a") == made


def test_a_change_is_kept_with_before_and_after(accounts: Accounts, record: Store) -> None:
    made = accounts.create_tenant("a", "basic", actor=ACTOR, requests_per_minute=10)
    changed = accounts.update_tenant(
        made.id, actor="user:root", name="b", requests_per_minute=None, online_target_ms=50, enabled=True
    )
    assert (changed.name, changed.requests_per_minute, changed.online_target_ms) == ("b", None, 50)
    assert changed.updated_ms >= made.updated_ms
    assert accounts.get_tenant("b") == changed
    entry = Audit(record).list()[0]
    assert (entry.actor, entry.action, entry.subject) == ("user:root", "tenant.update", made.id)
    assert entry.before == {"name": "a", "requests_per_minute": 10, "online_target_ms": None}
    assert entry.after == {"name": "b", "requests_per_minute": None, "online_target_ms": 50}


def test_a_change_of_nothing_leaves_no_entry(accounts: Accounts, record: Store) -> None:
    made = accounts.create_tenant("a", "basic", actor=ACTOR)
    assert accounts.update_tenant("a", actor=ACTOR, name="a", tier="basic") == made
    assert len(Audit(record).list()) == 1


def test_weight_follows_the_tier_unless_it_was_set(accounts: Accounts) -> None:
    accounts.create_tenant("follows", "basic", actor=ACTOR)
    accounts.create_tenant("set", "basic", actor=ACTOR, weight=33)
    assert accounts.update_tenant("follows", actor=ACTOR, tier="vip").weight == TIER_DEFAULTS[Tier.VIP].weight
    assert accounts.update_tenant("set", actor=ACTOR, tier="vip").weight == 33
    assert accounts.update_tenant("set", actor=ACTOR, weight=None).weight == TIER_DEFAULTS[Tier.VIP].weight


def test_change_and_audit_entry_are_kept_together_or_not_at_all(
    accounts: Accounts, record: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = accounts.create_tenant("a", "vip", actor=ACTOR)
    key = accounts.create_key("a", actor=ACTOR)

    class TrailBroken(Exception):
        pass

    def broken(*_given: object, **_named: object) -> None:
        raise TrailBroken

    monkeypatch.setattr(audit, "append", broken)
    with pytest.raises(TrailBroken):
        accounts.create_tenant("b", "vip", actor=ACTOR)
    with pytest.raises(TrailBroken):
        accounts.update_tenant("a", actor=ACTOR, weight=5)
    with pytest.raises(TrailBroken):
        accounts.create_key("a", actor=ACTOR)
    with pytest.raises(TrailBroken):
        accounts.revoke_key(key.id, actor=ACTOR)
    assert accounts.list_tenants() == [made]
    assert [(each.id, each.revoked_ms) for each in accounts.list_keys("a")] == [(key.id, None)]


def test_changes_at_once_form_one_chain(accounts: Accounts, record: Store) -> None:
    accounts.create_tenant("a", "vip", actor=ACTOR, weight=1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda weight: accounts.update_tenant("a", actor=ACTOR, weight=weight), range(2, 22)))
    entries = [entry for entry in Audit(record).list() if entry.action == "tenant.update"][::-1]
    assert len(entries) == 20
    weight: object = 1
    for entry in entries:
        assert entry.before == {"weight": weight}
        assert entry.after is not None
        weight = entry.after["weight"]
    assert accounts.get_tenant("a").weight == weight


@pytest.mark.parametrize("unknown", ["nobody", "", "ten_" + "0" * 24, "a\0", "\ud800", "x" * 10_000, "' OR '1'='1"])
def test_unknown_names_and_ids(accounts: Accounts, unknown: str) -> None:
    with pytest.raises(NotFound, match="no tenant"):
        accounts.get_tenant(unknown)
    with pytest.raises(NotFound, match="no tenant"):
        accounts.update_tenant(unknown, actor=ACTOR, weight=1)
    with pytest.raises(NotFound, match="no tenant"):
        accounts.create_key(unknown, actor=ACTOR)
    with pytest.raises(NotFound, match="no tenant"):
        accounts.list_keys(unknown)
    with pytest.raises(NotFound, match="no key"):
        accounts.revoke_key(unknown, actor=ACTOR)


def test_a_key_opens_its_tenant_and_no_other_text_does(accounts: Accounts) -> None:
    first = accounts.create_tenant("first", "vip", actor=ACTOR)
    second = accounts.create_tenant("second", "basic", actor=ACTOR)
    one, two = accounts.create_key("first", actor=ACTOR), accounts.create_key(second.id, actor=ACTOR)
    assert len(one.key) == len("qq_") + 43
    assert one.key.startswith(f"qq_{one.prefix}")
    assert (one.tenant, two.tenant) == ("first", "second")
    assert accounts.authenticate(one.key) == first
    assert accounts.authenticate(two.key) == second
    for wrong in ("", "qq_", one.prefix, one.key[:-1], one.key + "x", one.key[3:], one.id, "qq_\0", "qq_\ud800"):
        assert accounts.authenticate(wrong) is None
    hashed = hashlib.sha256(one.key.encode()).hexdigest()
    assert accounts.authenticate(hashed) is None
    assert accounts.authenticate("qq_" + hashed) is None


def test_a_key_is_never_stored_or_audited_in_clear(accounts: Accounts, record: Store, tmp_path: Path) -> None:
    accounts.create_tenant("a", "vip", actor=ACTOR)
    key = accounts.create_key("a", actor=ACTOR)
    assert accounts.authenticate(key.key) is not None
    accounts.revoke_key(key.id, actor=ACTOR)
    canary = key.key.removeprefix("qq_" + key.prefix)
    held = everything(record)
    assert key.prefix in held
    assert canary not in held
    # PostgreSQL's files are not here; SQLite's are: the file, its log and its index.
    for file in tmp_path.iterdir():
        assert canary.encode() not in file.read_bytes()
    with record.session() as session:
        assert session.scalars(select(KeyRow.sha256)).one() == hashlib.sha256(key.key.encode()).hexdigest()


def test_a_revoked_key_ends_at_once_here_and_within_two_seconds_elsewhere(accounts: Accounts, record: Store) -> None:
    clock = ManualClock()
    elsewhere = Accounts(record, monotonic_clock_ms=clock)
    accounts.create_tenant("a", "vip", actor=ACTOR)
    key, other = accounts.create_key("a", actor=ACTOR), accounts.create_key("a", actor=ACTOR)
    assert accounts.authenticate(key.key) is not None
    assert elsewhere.authenticate(key.key) is not None
    revoked = accounts.revoke_key(key.id, actor=ACTOR)
    assert revoked.revoked_ms is not None
    assert accounts.authenticate(key.key) is None
    clock.ms += 2_000
    assert elsewhere.authenticate(key.key) is None
    assert elsewhere.authenticate(other.key) is not None
    assert accounts.revoke_key(key.id, actor=ACTOR) == revoked
    assert [entry.action for entry in Audit(record).list(subject=key.id)] == ["key.revoke", "key.create"]


def test_a_change_of_the_tenant_reaches_its_key(accounts: Accounts) -> None:
    accounts.create_tenant("a", "basic", actor=ACTOR)
    key = accounts.create_key("a", actor=ACTOR).key
    accounts.authenticate(key)
    changed = accounts.update_tenant("a", actor=ACTOR, tier="vip")
    assert accounts.authenticate(key) == changed
    accounts.update_tenant("a", actor=ACTOR, enabled=False)
    assert accounts.authenticate(key) is None
    accounts.update_tenant("a", actor=ACTOR, enabled=True)
    assert accounts.authenticate(key) is not None


def test_keys_are_listed_by_tenant(accounts: Accounts) -> None:
    for name in ("a", "b"):
        accounts.create_tenant(name, "vip", actor=ACTOR)
    made = {name: [accounts.create_key(name, actor=ACTOR).id for _ in range(2)] for name in ("a", "b")}
    assert {key.id for key in accounts.list_keys("a")} == set(made["a"])
    assert {key.id for key in accounts.list_keys()} == set(made["a"] + made["b"])


def test_the_trail_is_read_in_pages_newest_first(accounts: Accounts, record: Store) -> None:
    ids = [accounts.create_tenant(name, "vip", actor=ACTOR).id for name in "abcde"]
    trail = Audit(record)
    newest = trail.list(2)
    older = trail.list(10, before_id=newest[-1].id)
    assert [entry.subject for entry in [*newest, *older]] == ids[::-1]
    assert newest[0].after is not None
    assert newest[0].after["name"] == "e"

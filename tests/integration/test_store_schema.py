"""Do the migrations make the tables that the code expects, and take them away again, on both databases?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text, update

from qosqueue.errors import SettingsError
from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.terms import PRIORITY_RANGES, OnLate, RoadStep, TaskType, Tier
from qosqueue.service.accounts import Accounts
from qosqueue.store.bulk_tables import ALL_TABLES
from qosqueue.store.schema import downgrade, is_current, upgrade
from qosqueue.store.seed import seed_tiers
from qosqueue.store.session import Store, open_store
from qosqueue.store.tables import (
    AuditRow,
    ModelRow,
    OverrideRow,
    PolicyVersionRow,
    ScenarioRow,
    TenantRow,
    TierRow,
)

pytest_plugins = ["tests.support.record"]


def tables(url: str) -> set[str]:
    store = open_store(url)
    names = set(inspect(store.engine).get_table_names())
    store.close()
    return names


def test_up_down_up(empty_url: str) -> None:
    assert not is_current(empty_url)
    upgrade(empty_url)
    assert is_current(empty_url)
    assert tables(empty_url) == set(ALL_TABLES.tables) | {"alembic_version"}
    downgrade(empty_url, "base")
    assert not is_current(empty_url)
    assert tables(empty_url) == {"alembic_version"}
    upgrade(empty_url)
    assert is_current(empty_url)


def test_rows_outlive_each_step_up_and_down(empty_url: str) -> None:
    upgrade(empty_url)
    store = open_store(empty_url)
    accounts = Accounts(store)
    accounts.create_tenant("a", "vip", actor="test", organisation="both", contracted_percent=40, max_running=3)
    key = accounts.create_key("a", actor="test").key
    store.close()
    # One by one, too: what one step leaves behind, the next must be able to take.
    for revision in ("0006", "0005", "0004", "0003", "0002", "0001"):
        downgrade(empty_url, revision)
        assert not is_current(empty_url)
    upgrade(empty_url)
    store = open_store(empty_url)
    owner = Accounts(store).authenticate(key)
    store.close()
    assert owner is not None
    assert (owner.name, owner.organisation, owner.contracted_percent, owner.max_running) == ("a", None, None, None)


def test_rows_of_the_policy_go_down_and_up_with_their_tables(empty_url: str) -> None:
    upgrade(empty_url)
    store = open_store(empty_url)
    tenant = Accounts(store).create_tenant("a", "vip", actor="test", requests_per_minute=5)
    with store.session() as session:
        for name, weight in (("small", "light"), ("chosen", "heavy")):
            session.add(
                ModelRow(
                    name=name, engine="e", weight_class=weight, memory_bytes=5, context_tokens=1, slots=1, options={},
                    enabled=True, created_ms=1, parameters=7, fallback_model="small", prewarm="always",
                )
            )  # fmt: skip
        session.flush()
        session.execute(update(TenantRow).values(tokens_per_day=9, road=["retry", "reject"], on_late="defer"))
        session.add(
            OverrideRow(scope="s", tenant_id=tenant.id, model="small", max_queued=3, source="file", updated_ms=1)
        )
        session.add(ScenarioRow(tenant_id=tenant.id, model="small", task_type="batch", observed=4, seen_ms=1))
        session.add(PolicyVersionRow(number=9, at_ms=1, actor="a", why="b", source="file", document={"x": [1]}))
    kept = Accounts(store).get_tenant("a")
    assert (kept.tokens_per_day, kept.on_late, kept.road) == (9, OnLate.DEFER, (RoadStep.RETRY, RoadStep.REJECT))
    store.close()
    downgrade(empty_url, "0002")
    upgrade(empty_url)
    store = open_store(empty_url)
    kept = Accounts(store).get_tenant("a")
    assert (kept.id, kept.requests_per_minute, kept.tokens_per_day, kept.road) == (tenant.id, 5, None, None)
    with store.session() as session:
        basis = dict(session.execute(select(ModelRow.name, ModelRow.weight_basis)).all())
        left = [session.scalars(select(table)).all() for table in (OverrideRow, ScenarioRow, PolicyVersionRow)]
    store.close()
    assert basis == {"small": "memory", "chosen": "given"}
    assert left == [[], [], []]


def test_models_and_migrations_are_in_step(record: Store) -> None:
    with record.engine.connect() as connection:
        migrations = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(migrations, ALL_TABLES) == []


def test_tiers_are_seeded_once_and_an_operators_change_stays(record: Store) -> None:
    with record.session() as session:
        session.execute(update(TierRow).where(TierRow.name == "vip").values(weight=77))
    with record.session() as session:
        seed_tiers(session)
    with record.session() as session:
        rows = {row.name: row for row in session.scalars(select(TierRow))}
    assert set(rows) == set(Tier)
    assert rows["vip"].weight == 77
    for tier, allowed in PRIORITY_RANGES.items():
        assert (rows[tier].priority_first, rows[tier].priority_last) == (allowed.first, allowed.last)
        assert rows[tier].online_target_ms == DEFAULT_BUDGET_MS[TaskType.ONLINE][tier]


def test_two_upgrades_at_once_take_turns(empty_url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(upgrade, empty_url) for _ in range(6)]:
            done.result()
    assert is_current(empty_url)


def test_a_failed_migration_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        pass

    def break_after(config: Config, revision: str) -> None:
        real(config, revision)
        raise Broken

    real = command.upgrade
    monkeypatch.setattr(command, "upgrade", break_after)
    with pytest.raises(Broken):
        upgrade(empty_url)
    assert tables(empty_url) == set()


def test_is_current_makes_no_file(sqlite_url: str, tmp_path: Path) -> None:
    assert not is_current(sqlite_url)
    assert list(tmp_path.iterdir()) == []


def test_upgrade_makes_the_folder_of_a_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new home%20' / 'deep' / 'qosqueue.db'}"
    upgrade(url)
    assert is_current(url)


def test_upgrade_needs_nothing_in_the_working_folder(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    upgrade(sqlite_url)
    assert is_current(sqlite_url)
    assert list(elsewhere.iterdir()) == []


def test_sqlite_is_opened_as_promised(sqlite_url: str) -> None:
    upgrade(sqlite_url)
    store = open_store(sqlite_url, busy_timeout_ms=1234)
    with store.session() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    store.close()
    assert found == {"journal_mode": "wal", "busy_timeout": 1234, "foreign_keys": 1, "synchronous": 2}, "2 is FULL"


def test_an_empty_json_column_is_null_to_the_database(record: Store) -> None:
    with record.session() as session:
        session.add(AuditRow(at_ms=1, actor="a", action="b", subject="c", before=None, after={"é": "\x00"}))
    with record.session() as session:
        assert session.scalars(select(AuditRow).where(AuditRow.before.is_(None))).one().after == {"é": "\x00"}


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://a:secret@b/c", "no url", "postgresql+nothing://a:secret@b/c"]
)
def test_a_url_that_cannot_serve_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="QOSQUEUE_DATABASE_URL: expected") as refused:
        open_store(url)
    assert "secret" not in str(refused.value)

"""Does a record that is locked, away, damaged or not migrated give one clear error, in time, and then recover?"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import IntegrityError

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.profile import Facts, make_profile
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.service.accounts import Accounts
from qosqueue.service.catalog import Catalog
from qosqueue.service.requests import JobRequest, new_row
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Tenant
from qosqueue.store.schema import is_current, upgrade
from qosqueue.store.session import Store, open_store
from tests.support.manual_clock import ManualClock

pytest_plugins = ["tests.support.record"]

ACTOR = "cli:tester"
BUSY_MS = 300


@pytest.fixture
def store(record_url: str) -> Iterator[Store]:
    store = open_store(record_url, busy_timeout_ms=BUSY_MS)
    yield store
    store.close()


@pytest.mark.alone
def test_a_lock_is_waited_for_no_longer_than_the_timeout(store: Store, record_url: str) -> None:
    accounts = Accounts(store)
    accounts.create_tenant("a", "vip", actor=ACTOR)
    other = open_store(record_url)
    with other.change() as session:
        session.execute(text("UPDATE tenants SET weight = 99"))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"^database (sqlite|postgresql).*lock") as told:
            accounts.update_tenant("a", actor=ACTOR, weight=5)
        waited_ms = (time.monotonic() - began) * 1000
        # Reading does not wait for a writer.
        assert accounts.get_tenant("a").weight != 99
    other.close()
    assert BUSY_MS * 0.8 <= waited_ms < BUSY_MS + 2_000
    assert "\n" not in str(told.value)
    assert accounts.update_tenant("a", actor=ACTOR, weight=5).weight == 5


def test_a_sqlite_file_that_another_process_holds_whole(sqlite_url: str, tmp_path: Path) -> None:
    upgrade(sqlite_url)
    store = open_store(sqlite_url, busy_timeout_ms=BUSY_MS)
    with closing(sqlite3.connect(tmp_path / "qosqueue.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE tiers SET weight = 1")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            Accounts(store).create_tenant("a", "vip", actor=ACTOR)
    store.close()


def test_a_database_without_tables_says_so(empty_url: str) -> None:
    store = open_store(empty_url)
    store.ping()
    with pytest.raises(StoreUnavailable, match="tenants"):
        Accounts(store).list_tenants()
    store.close()


def test_a_file_that_is_no_database(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "qosqueue.db").write_bytes(b"not a database at all" * 500)
    store = open_store(sqlite_url)
    with pytest.raises(StoreUnavailable, match="not a database"):
        store.ping()
    with pytest.raises(StoreUnavailable, match="not a database"):
        is_current(sqlite_url)
    store.close()


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        store.ping()
    store.close()


def test_last_known_keys_and_models_serve_while_sqlite_is_away(sqlite_url: str, tmp_path: Path) -> None:
    upgrade(sqlite_url)
    store, clock = open_store(sqlite_url), ManualClock()
    accounts, catalog = Accounts(store, monotonic_clock_ms=clock), Catalog(store, monotonic_clock_ms=clock)
    tenant = accounts.create_tenant("a", "vip", actor=ACTOR)
    known, unseen = accounts.create_key("a", actor=ACTOR).key, accounts.create_key("a", actor=ACTOR).key
    model = catalog.add_model("m", "simulated", actor=ACTOR, memory_bytes=1, context_tokens=1, slots=1)
    assert accounts.authenticate(known) == tenant
    assert catalog.get_model("m") == model

    store.close()
    file, aside = tmp_path / "qosqueue.db", tmp_path / "aside"
    file.rename(aside)
    file.mkdir()
    clock.ms += 300_000
    assert accounts.authenticate(known) == tenant
    assert catalog.get_model("m") == model
    for lost in (lambda: accounts.authenticate(unseen), lambda: catalog.get_model("n"), accounts.list_tenants):
        with pytest.raises(StoreUnavailable):
            lost()

    file.rmdir()
    aside.rename(file)
    assert accounts.authenticate(unseen) == tenant
    store.close()


@pytest.mark.postgres
def test_postgresql_goes_away_and_comes_back(postgres_url: str, postgres_server_url: str) -> None:
    upgrade(postgres_url)
    store = open_store(postgres_url)
    accounts = Accounts(store)
    accounts.create_tenant("a", "vip", actor=ACTOR)
    name = make_url(postgres_url).database
    server = create_engine(postgres_server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
        )
        with pytest.raises(StoreUnavailable, match="not currently accepting connections") as told:
            accounts.list_tenants()
        assert "\n" not in str(told.value)
        connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"))
    server.dispose()
    assert [tenant.name for tenant in accounts.list_tenants()] == ["a"]
    store.close()


@pytest.mark.postgres
def test_postgresql_cut_in_the_middle_keeps_nothing(postgres_url: str) -> None:
    upgrade(postgres_url)
    store = open_store(postgres_url)
    other = open_store(postgres_url)
    Accounts(store).create_tenant("a", "vip", actor=ACTOR)

    def change_and_be_cut() -> None:
        with store.change() as session:
            session.execute(text("UPDATE tenants SET weight = 99"))
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with other.session() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    with pytest.raises(StoreUnavailable):
        change_and_be_cut()
    assert Accounts(store).get_tenant("a").weight != 99
    other.close()
    store.close()


def test_an_error_of_sql_tells_nothing_of_what_was_to_be_stored(record: Store) -> None:
    facts = Facts(Tier.VIP, WeightClass.LIGHT, TaskType.ASYNC, prompt_tokens=1, max_output_tokens=1)
    request = JobRequest("/v1/chat/completions", "m", {"messages": ["promptcanary"]}, TaskType.ASYNC, 1, 1)
    stranger = Tenant("ten_nobody", "nobody", Tier.VIP, 1, None, None, None, None, None, None, None, True, 0, 0)
    row = new_row("job_1", stranger, request, make_profile(facts), status="queued")
    with pytest.raises(IntegrityError) as told:
        JobRecord(record).insert([row])
    assert "promptcanary" not in f"{told.value!s} {told.value!r}"


def test_the_password_of_the_database_is_never_told() -> None:
    store = open_store("postgresql://somebody:hunter2canary@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable) as told:
        store.ping()
    assert "hunter2canary" not in str(told.value)
    assert "\n" not in str(told.value)
    store.close()

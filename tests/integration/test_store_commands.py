"""Do the commands on the record do what their help says, with the right exit code and one clear line of error?"""

from __future__ import annotations

import getpass
import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from qosqueue.commands import audit, context, key, model, tenant, user
from qosqueue.service.accounts import Accounts
from qosqueue.service.audit import Audit
from qosqueue.service.catalog import Catalog
from qosqueue.service.users import Users
from qosqueue.settings import load_settings
from qosqueue.store.schema import downgrade
from qosqueue.store.session import Store, open_store
from tests.support.tables import make_tables

root = typer.Typer()
for name, commands in {"tenant": tenant, "key": key, "model": model, "user": user, "audit": audit}.items():
    root.add_typer(commands.app, name=name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that the environment names, with nothing in it."""
    folder = tmp_path / "home"
    monkeypatch.setenv("QOSQUEUE_HOME", str(folder))
    monkeypatch.delenv("QOSQUEUE_DATABASE_URL", raising=False)
    return folder


@pytest.fixture
def migrated(home: Path) -> Path:
    make_tables(load_settings().sql_url())
    return home


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(root, list(arguments), input=stdin)


def run_json(*arguments: str, stdin: str | None = None) -> Any:
    done = run(*arguments, "--json", stdin=stdin)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def opened() -> Store:
    return open_store(load_settings().sql_url())


def test_the_trail_of_changes(migrated: Path) -> None:
    made = run_json("tenant", "create", "acme", "--tier", "vip")
    run_json("tenant", "update", made["id"], "--weight", "7")
    changed, created = run_json("audit", "list")
    assert (created["action"], created["subject"]) == ("tenant.create", made["id"])
    assert (changed["action"], changed["after"]) == ("tenant.update", {"weight": 7})
    assert changed["actor"] == f"cli:{getpass.getuser()}"
    assert [entry["id"] for entry in run_json("audit", "list", "--limit", "1")] == [changed["id"]]
    table = run("audit", "list")
    assert table.exit_code == 0
    assert table.stdout.splitlines()[0].split() == ["id", "changed", "actor", "action", "subject", "before", "after"]


def test_a_tenant_from_making_to_changing(migrated: Path) -> None:
    made = run_json("tenant", "create", "Acme Corp", "--tier", "vip", "--weight", "3", "--online-target-ms", "200")
    assert made["name"] == "Acme Corp"
    assert (made["tier"], made["weight"], made["online_target_ms"], made["enabled"]) == ("vip", 3, 200, True)
    assert run_json("tenant", "list") == [made]
    changed = run_json(
        "tenant", "update", made["id"], "--tier", "basic", "--requests-per-minute", "5", "--clear", "online_target_ms"
    )
    assert (changed["tier"], changed["requests_per_minute"], changed["online_target_ms"]) == ("basic", 5, None)
    promised = ("--organisation", "Acme", "--contracted-percent", "30", "--max-running", "4")
    shared = run_json("tenant", "update", "Acme Corp", *promised)
    assert [shared[name] for name in ("organisation", "contracted_percent", "max_running")] == ["Acme", 30, 4]
    assert run("tenant", "list").stdout.splitlines()[1].split()[-4:] == ["Acme", "30", "4", "yes"]
    assert run_json("tenant", "update", "Acme Corp", "--clear", "organisation")["organisation"] is None
    assert not run_json("tenant", "update", "Acme Corp", "--disable")["enabled"]
    store = opened()
    assert {entry.actor for entry in Audit(store).list()} == {f"cli:{getpass.getuser()}"}
    assert Accounts(store).get_tenant("Acme Corp").requests_per_minute == 5
    store.close()


def test_tables_for_people_have_a_line_a_row(migrated: Path) -> None:
    long_name = "x" * 64
    made = run("tenant", "create", long_name, "--tier", "vip")
    assert made.exit_code == 0
    lines = run("tenant", "list").stdout.splitlines()
    assert made.stdout.splitlines() == lines
    assert lines[0].split()[:4] == ["name", "id", "tier", "weight"]
    assert lines[1].split()[0] == long_name
    assert lines[1].split()[4:] == ["-"] * 7 + ["yes"]
    assert len(lines) == 2
    run("key", "create", "--tenant", long_name)
    shown = run("key", "list").stdout.splitlines()
    assert shown[0].split() == ["id", "tenant", "prefix", "created", "revoked"]
    assert shown[1].split()[3].endswith("Z")


def test_a_key_from_making_to_revoking(migrated: Path) -> None:
    owner = run_json("tenant", "create", "acme", "--tier", "standard")
    made = run_json("key", "create", "--tenant", "acme")
    assert set(made) == {"id", "key", "prefix", "tenant"}
    assert made["tenant"] == "acme"
    plain = run("key", "create", "--tenant", owner["id"]).stdout.strip()
    store = opened()
    accounts = Accounts(store)
    assert accounts.authenticate(made["key"]) == accounts.authenticate(plain) == accounts.get_tenant("acme")
    store.close()
    listed = run("key", "list", "--tenant", "acme", "--json").stdout
    assert made["key"] not in listed
    assert [each["id"] for each in json.loads(listed) if each["prefix"] == made["prefix"]] == [made["id"]]
    assert run_json("key", "revoke", made["id"])["revoked_ms"] is not None
    assert run("key", "revoke", made["id"]).stdout == f"revoked {made['id']} ({made['prefix']}…)\n"
    store = opened()
    assert Accounts(store).authenticate(made["key"]) is None
    assert Accounts(store).authenticate(plain) is not None
    store.close()


def test_a_model_is_added_and_listed(migrated: Path) -> None:
    made = run_json(
        *("model", "add", "m", "--engine", "simulated", "--memory-bytes", "3000000000"),
        *("--context-tokens", "2048", "--slots", "4", "--options", '{"step_ms": 5}'),
    )
    assert (made["weight_class"], made["options"], made["slots"]) == ("medium", {"step_ms": 5}, 4)
    assert run_json("model", "list") == [made]
    assert "medium" in run("model", "list").stdout


def test_a_model_is_changed_and_removed(migrated: Path) -> None:
    add = "model add m --engine simulated --memory-bytes 1 --context-tokens 64"
    made = run_json(*add.split())
    changed = run_json(
        *("model", "update", "m", "--slots", "3", "--context-tokens", "128", "--memory-bytes", "2"),
        *("--options", '{"step_ms": 1}'),
    )
    wanted = {"slots": 3, "context_tokens": 128, "memory_bytes": 2, "options": {"step_ms": 1}}
    assert changed == made | wanted
    assert not run_json("model", "update", "m", "--disable")["enabled"]
    assert run("model", "remove", "m").stdout == "removed m\n"
    assert run_json("model", "list") == []
    store = opened()
    actions = [entry.action for entry in Audit(store).list()]
    store.close()
    assert actions == ["model.remove", "model.update", "model.update", "model.add"]


def test_a_model_that_no_engine_takes_is_not_added(migrated: Path) -> None:
    run(*["model", "add", "m", "--engine", "simulated", "--memory-bytes", "1", "--context-tokens", "64"])
    before = run_json("model", "list")
    unknown = run(*["model", "add", "x", "--engine", "nope", "--memory-bytes", "1", "--context-tokens", "1"])
    told = "qosqueue: model x: unknown engine 'nope', expected one of llama.cpp, sentence-bert, simulated\n"
    assert (unknown.exit_code, unknown.stdout, unknown.stderr) == (2, "", told)
    for words in ("add x --engine simulated --memory-bytes 1 --context-tokens 1", "update m"):
        unsound = run("model", *words.split(), "--options", '{"wings": 2}')
        assert (unsound.exit_code, unsound.stderr.count("\n")) == (2, 1)
        assert "bad options for engine simulated: wings" in unsound.stderr
    assert run_json("model", "list") == before


def test_a_model_that_an_older_version_let_in_can_be_disabled(migrated: Path) -> None:
    store = opened()
    Catalog(store).add_model("x", "nope", actor="test", memory_bytes=1, context_tokens=1, slots=1)
    store.close()
    assert not run_json("model", "update", "x", "--disable")["enabled"]
    assert run("model", "update", "x", "--enable").exit_code == 2


def test_a_user_is_made_from_stdin_or_a_prompt(migrated: Path) -> None:
    password = "a long canary"
    made = run_json("user", "create", "root", "--role", "admin", "--password-stdin", stdin=f"{password}\n")
    assert (made["name"], made["role"]) == ("root", "admin")
    prompted = run("user", "create", "anna", stdin=f"{password}\n{password}\n")
    assert prompted.exit_code == 0
    assert "anna" in prompted.stdout
    assert password not in prompted.output
    store = opened()
    found = [Users(store).check_password(name, password) for name in ("root", "anna")]
    store.close()
    assert [each.role for each in found if each] == ["admin", "viewer"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("tenant create a --tier gold", 2, "tier: expected one of vip, standard, basic, got 'gold'"),
        ("tenant create a{b} --tier vip", 2, "name: expected 1 to 64 letters"),
        ("tenant create a --tier vip --weight 0", 2, "weight: expected a whole number from 1 to 1000, got 0"),
        ("tenant create taken --tier vip", 1, "name: a tenant named 'taken' exists already"),
        ("tenant update taken --clear name", 2, "--clear: expected one of online_target_ms"),
        ("tenant update taken --requests-per-minute 3 --clear requests_per_minute", 2, "got both"),
        ("tenant create a --tier vip --contracted-percent 61", 2, "contracted_percent: expected at most 60 (other"),
        ("tenant create a --tier vip --max-running -1", 2, "max_running: expected a whole number from 0 to"),
        ("tenant update taken", 2, "expected at least one field to change, got none"),
        ("tenant update nobody --weight 3", 1, "no tenant 'nobody'"),
        ("key create --tenant nobody", 1, "no tenant 'nobody'"),
        ("key revoke key_0", 1, "no key 'key_0'"),
        ("model add m --engine e --memory-bytes 1 --context-tokens 1 --options [1]", 2, "options: expected a JSON"),
        ("model add m --engine e --memory-bytes 1 --context-tokens 1 --options {", 2, "options: expected a JSON"),
        ("model update nobody --slots 2", 1, "no model 'nobody'"),
        ("model update nobody", 2, "expected at least one field to change, got none"),
        ("model update nobody --slots 0", 2, "slots: expected a whole number from 1 to 4096, got 0"),
        ("model remove nobody", 1, "no model 'nobody'"),
        ("user create root --role king --password-stdin", 2, "role: expected one of admin, operator, viewer"),
        ("user create root --password-stdin", 2, "password: expected 10 to 256 characters, got 5"),
    ],
)
def test_an_error_is_one_line_that_names_the_field(migrated: Path, arguments: str, code: int, told: str) -> None:
    run("tenant", "create", "taken", "--tier", "vip", "--contracted-percent", "40")
    done = run(*arguments.split(), stdin="short\n")
    assert done.exit_code == code
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    ["tenant create", "tenant create a", "tenant create a --tier vip --weight x", "key create", "key revoke"],
)
def test_a_wrong_call_is_a_usage_error(migrated: Path, arguments: str) -> None:
    assert run(*arguments.split()).exit_code == 2


@pytest.mark.parametrize("command", ["tenant", "key", "model", "user", "tenant create", "key revoke", "user create"])
def test_every_command_has_help(home: Path, command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout
    assert not home.exists()


def test_a_missing_database_is_told_and_not_made(home: Path) -> None:
    done = run("tenant", "list")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"qosqueue: no database at {home / 'qosqueue.db'}")
    assert done.stderr.count("\n") == 1
    assert not home.exists()


def test_a_database_that_is_not_migrated_is_told_and_left_alone(migrated: Path) -> None:
    downgrade(load_settings().sql_url(), "base")
    done = run("tenant", "list", "--json")
    assert done.exit_code == 1
    assert "has not the tables of this version" in done.stderr
    assert done.stdout == ""


def test_a_locked_database_is_told(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "open_store", partial(open_store, busy_timeout_ms=200))
    with closing(sqlite3.connect(migrated / "qosqueue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = run("tenant", "create", "a", "--tier", "vip")
    assert done.exit_code == 1
    assert "database is locked" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_misspelt_setting_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOSQUEUE_HOEM", "x")
    done = run("tenant", "list")
    assert done.exit_code == 1
    assert done.stderr.startswith("qosqueue: unknown setting QOSQUEUE_HOEM")

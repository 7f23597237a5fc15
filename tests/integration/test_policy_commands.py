"""Do the commands of the policy say, show and change what their help says, in words and as JSON?"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from qosqueue.commands import model, override, policy, tenant
from qosqueue.settings import load_settings
from qosqueue.store.session import open_store
from tests.support.policy_world import FILE, furnish
from tests.support.tables import make_tables

root = typer.Typer()
for name, commands in {
    "tenant": tenant.app,
    "model": model.app,
    "policy": policy.app,
    "override": override.app,
}.items():
    root.add_typer(commands, name=name)
root.add_typer(override.scenarios, name="scenario")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A furnished record, and the folder in which the files are."""
    monkeypatch.setenv("QOSQUEUE_HOME", str(tmp_path / "home"))
    url = load_settings().sql_url()
    make_tables(url)
    store = open_store(url)
    furnish(store)
    store.close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.toml").write_text(FILE)
    return tmp_path


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(root, list(arguments), input=stdin)


def run_json(*arguments: str, stdin: str | None = None, code: int = 0) -> Any:
    done = run(*arguments, "--json", stdin=stdin)
    assert (done.exit_code, done.stderr) == (code, ""), done.stderr
    return json.loads(done.stdout)


def test_a_file_from_validate_to_rollback(home: Path) -> None:
    (first,) = run_json("policy", "history", "--limit", "1")
    assert run("policy", "validate", "policy.toml").stdout == "valid\n"
    planned = run_json("policy", "diff", "policy.toml")
    assert {"key": "tenants.acme.tier", "before": "standard", "after": "vip"} in planned
    applied = run_json("policy", "apply", "policy.toml", "--why", "spring contracts")
    assert applied == {"version": first["number"] + 1, "differences": planned}
    assert run("policy", "diff", "policy.toml").stdout == "nothing differs\n"
    newest, before = run_json("policy", "history", "--limit", "2")
    assert (newest["source"], newest["why"], before) == ("file", "spring contracts", first)
    shown = run_json("policy", "show", str(newest["number"]))
    assert shown["differences"] == planned
    assert "tenants.acme.tier" in run("policy", "show", str(newest["number"])).stdout
    sources = {each["name"]: each["source"] for each in run_json("tenant", "list")}
    assert sources == {"acme": "file", "New Corp": "file", "beta": "page"}
    assert "source" in run("tenant", "list").stdout.splitlines()[0]
    back = run_json("policy", "rollback", str(first["number"]))
    assert back["version"] == newest["number"] + 1
    assert {"key": "tenants.acme.tier", "before": "vip", "after": "standard"} in back["differences"]
    assert (
        run("policy", "rollback", str(first["number"])).stdout == f"nothing differs\nversion {back['version']} holds\n"
    )
    assert run_json("policy", "diff", "--version", str(first["number"])) == []
    assert run_json("policy", "history", "--limit", "1")[0]["why"] == f"back to version {first['number']}"
    run("policy", "rollback", str(newest["number"]), "--why", "it was right")
    assert run_json("policy", "history", "--limit", "1")[0]["why"] == (
        f"back to version {newest['number']}: it was right"
    )


def test_an_export_is_a_file_that_changes_nothing(home: Path) -> None:
    exported = run("policy", "export")
    assert tomllib.loads(exported.stdout)["tenants"]["beta"]["contracted_percent"] == 40
    assert run_json("policy", "diff", "-", stdin=exported.stdout) == []
    assert run_json("policy", "export")["tenants"]["beta"]["source"] == "page"
    (newest,) = run_json("policy", "history", "--limit", "1")
    run("tenant", "update", "beta", "--max-queued", "4")
    assert run("policy", "export", "--version", str(newest["number"])).stdout == exported.stdout


def test_every_fault_of_a_file_is_told(home: Path) -> None:
    wrong = FILE.replace("tokens_per_day = 5000", "tokens_per_day = -1\nwieght = 3")
    done = run("policy", "apply", "-", stdin=wrong)
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["qosqueue", "tenants.acme.tokens_per_day"], ["qosqueue", "tenants.acme.wieght"],
    ]  # fmt: skip
    told = run_json("policy", "validate", "-", stdin=wrong, code=2)
    assert not told["valid"]
    assert told["faults"][0]["key"] == "tenants.acme.tokens_per_day"
    assert told["faults"][0]["got"] == -1


def test_a_file_is_checked_against_the_record_or_alone(home: Path) -> None:
    partial = "schema = 1\n[[overrides]]\nmodel = 'kept'\nmax_queued = 1\n"
    assert run("policy", "validate", "-", stdin=partial).exit_code == 0
    alone = run("policy", "validate", "-", "--alone", stdin=partial)
    assert (alone.exit_code, alone.stderr.count("\n")) == (2, 1)
    assert "overrides[model=kept].model: expected a model of the policy, got 'kept'" in alone.stderr
    assert run("policy", "validate", "policy.toml", "--alone").exit_code == 0
    over = FILE.replace("contracted_percent = 30", "contracted_percent = 61")
    assert run("policy", "validate", "-", "--alone", stdin=over).exit_code == 0
    beyond = run("policy", "validate", "-", stdin=over)
    assert "contracted_percent: expected at most 60 (the contracts before it come to 40 %" in beyond.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("policy diff", 2, "policy diff: expected a file or --version, one of them"),
        ("policy diff policy.toml --version 1", 2, "expected a file or --version, one of them"),
        ("policy apply nowhere.toml", 1, "nowhere.toml: expected a policy file, got"),
        ("policy rollback 99", 1, "no policy version 99"),
        ("policy show 99", 1, "no policy version 99"),
        ("override set --tenant acme --max-queued 1", 2, "expected a model, a task_type or both"),
        ("override set --model small", 2, "override set: expected at least one field"),
        ("override set --model small --road retry,reject,defer", 2, "road: expected different steps"),
        ("override set --model small --clear weight", 2, "--clear: expected one of"),
        ("override set --model nobody --max-queued 1", 2, "expected a model of the policy, got 'nobody'"),
        ("override set --tenant nobody --model small --max-queued 1", 1, "no tenant 'nobody'"),
        ("override clear --model small", 2, "expected at least one of"),
        ("scenario bound --tenant acme --model small --task-type async", 2, "expected --lower-ms, --upper-ms"),
        ("model add m --engine simulated --context-tokens 1", 2, "memory_bytes: expected it, or --parameters"),
        ("tenant update acme --on-late never", 2, "on_late: expected one of reject, defer, downgrade, got 'never'"),
    ],
)
def test_an_error_is_one_line(home: Path, arguments: str, code: int, told: str) -> None:
    done = run(*arguments.split())
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["export", "validate", "diff", "apply", "rollback", "history", "show"])
def test_every_command_has_help_and_json(command: str) -> None:
    done = run("policy", command, "--help")
    assert done.exit_code == 0
    assert "--json" in done.stdout


def test_a_model_that_no_engine_takes_stops_a_file(home: Path) -> None:
    before = run_json("policy", "export")
    done = run("policy", "apply", "-", stdin=FILE.replace('engine = "simulated"', 'engine = "nope"', 1))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "model small: unknown engine 'nope'" in done.stderr
    assert run_json("policy", "export") == before


def test_overrides_and_bounds(home: Path) -> None:
    about = ("--tenant", "acme", "--model", "small")
    (made,) = run_json("override", "set", *about, "--max-queued", "3", "--road", "retry, reject", "--on-late", "defer")
    wanted = {"tenant": "acme", "model": "small", "task_type": None, "max_queued": 3, "on_late": "defer"}
    assert {name: made[name] for name in wanted} == wanted
    assert made["road"] == ["retry", "reject"]
    assert "retry, reject" in run("override", "list").stdout
    (changed,) = run_json("override", "set", *about, "--clear", "on_late", "--max-in-flight", "0")
    assert (changed["on_late"], changed["max_in_flight"], changed["max_queued"]) == (None, 0, 3)
    assert run("override", "list").stdout.splitlines()[0].split()[:4] == [
        "tenant",
        "model",
        "task_type",
        "max_in_flight",
    ]
    assert run_json("override", "clear", *about) == []
    scenario = (*about, "--task-type", "async")
    run_json("scenario", "bound", *scenario, "--lower-ms", "10", "--upper-ms", "20")
    (bounded,) = run_json("scenario", "list")
    assert (bounded["tenant"], bounded["lower_ms"], bounded["upper_ms"], bounded["observed"]) == ("acme", 10, 20, 0)
    run_json("scenario", "bound", *scenario, "--clear", "lower_ms")
    assert run_json("scenario", "list")[0]["lower_ms"] is None


def test_the_new_limits_and_the_basis_of_a_weight_class(home: Path) -> None:
    limits = {"tokens_per_day": 9, "gpu_seconds_per_day": 8, "max_in_flight": 7, "max_queued": 6, "low_target_ms": 5}
    options = [word for name, most in limits.items() for word in (f"--{name.replace('_', '-')}", str(most))]
    made = run_json("tenant", "create", "new", "--tier", "vip", *options, "--road", "retry", "--why", "asked for it")
    assert {name: made[name] for name in limits} == limits
    assert (made["road"], made["source"]) == (["retry"], "command")
    assert run_json("policy", "history", "--limit", "1")[0]["why"] == "asked for it"
    cleared = run_json(
        "tenant", "update", "new", "--clear", "road", "--clear", "max_queued", "--error-budget-per-10k", "5"
    )
    assert (cleared["road"], cleared["max_queued"], cleared["error_budget_per_10k"]) == (None, None, 5)
    table = run("tenant", "list").stdout.splitlines()[0].split()
    assert "tokens_per_day" in table
    assert "max_queued" not in table, "nobody has it"
    heavy = run("model", "add", "big", "--engine", "simulated", "--parameters", "7000000000", "--context-tokens", "64")
    assert heavy.stdout.splitlines()[-1].startswith("heavy: 7000000000 parameters take about 14.0 GB")
    lighter = run_json("model", "update", "big", "--weight-class", "light")
    assert (lighter["weight_class"], lighter["weight_basis"]) == ("light", "given")
    again = run_json("model", "update", "big", "--clear", "weight_class", "--memory-bytes", "3000000000")
    assert (again["weight_class"], again["weight_basis"]) == ("medium", "memory")

"""Do the commands for webhooks do what their help says, and is a secret shown once?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from qosqueue.cli import app
from qosqueue.settings import load_settings
from tests.support.bulk import HOOK_URL
from tests.support.tables import make_tables


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QOSQUEUE_HOME", str(tmp_path / "home"))
    make_tables(load_settings().sql_url())
    assert run("tenant", "create", "acme", "--tier", "vip").exit_code == 0
    return tmp_path / "home"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_an_endpoint_from_adding_to_removing(home: Path) -> None:
    plain = run("webhook", "add", HOOK_URL, "--tenant", "acme")
    assert plain.exit_code == 0, plain.stderr
    assert plain.stdout.startswith("whsec_")
    asked = ("--event", "batch.failed", "--event", "batch.completed", "--name", "mine", "--json")
    made = json.loads(run("webhook", "add", HOOK_URL, "--tenant", "acme", *asked).stdout)
    assert (made["name"], made["event_types"]) == ("mine", ["batch.completed", "batch.failed"])
    assert made["signing_secret"].startswith("whsec_")
    listed = run("webhook", "list", "--tenant", "acme", "--json").stdout
    assert made["signing_secret"] not in listed
    assert [each["id"] for each in json.loads(listed)][1] == made["id"]
    table = run("webhook", "list").stdout.splitlines()
    assert table[0].split()[:4] == ["id", "tenant", "name", "url"]
    assert len(table) == 3
    assert run("webhook", "remove", made["id"]).stdout == f"removed {made['id']}\n"
    assert len(json.loads(run("webhook", "list", "--json").stdout)) == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["add", "http://10.0.0.1/", "--tenant", "acme"], 2, "url: expected an https:// URL of a public host"),
        (["add", HOOK_URL, "--tenant", "acme", "--event", "x"], 2, "event_types: expected some of batch"),
        (["add", HOOK_URL, "--tenant", "nobody"], 1, "no tenant 'nobody'"),
        (["remove", "whe_0"], 1, "no webhook endpoint 'whe_0'"),
    ],
)
def test_an_error_is_one_line_that_names_the_field(home: Path, words: list[str], code: int, told: str) -> None:
    done = run("webhook", *words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert told in done.stderr

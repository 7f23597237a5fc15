"""Does `make test-fuzz` say what it does, and fail when it should?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qosqueue.policy.terms import Tier
from scripts.demo.system import DemoFailed, Site
from scripts.fuzz import __main__ as fuzz
from scripts.fuzz.models import add_models

LOG = """started
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
ValueError: no such thing
ready
"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each run of the program, of which "operators" fails; the site is none."""
    (tmp_path / "logs").mkdir()
    commands: list[list[str]] = []

    @contextmanager
    def site(order: str, prepare: Callable[[Path], None]) -> Iterator[Site]:
        assert (order, prepare) == ("qos", add_models)
        yield Site(tmp_path, "127.0.0.1", 1, {Tier.STANDARD: "qq_key"})

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return SimpleNamespace(returncode=int("operators.json" in command[4]))

    monkeypatch.setattr(fuzz, "running", site)
    monkeypatch.setattr(fuzz, "document_of", lambda site, name: {"components": {"schemas": {}}, "name": name})
    monkeypatch.setattr(fuzz, "naming_models", lambda document: document)
    monkeypatch.setattr(fuzz, "admin_token", lambda site: "qu_token")
    monkeypatch.setattr(fuzz.subprocess, "run", run)
    return commands


def test_all_checks_of_both_documents_with_their_keys(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--schemathesis", "st", "--examples", "7"]) == 1
    assert "checks failed in: operators; tracebacks in the logs: 0" in capsys.readouterr().err
    assert [command[command.index("--header") + 1] for command in ran] == [
        *("Authorization: Bearer qq_key", "Authorization: Bearer qq_key", "Authorization: Bearer qu_token")
    ]
    for command in ran:
        assert command[0] == "st"
        assert command[command.index("--checks") + 1] == "all"
        assert "--exclude-checks" not in command


def test_a_traceback_in_a_log_is_a_failure(
    ran: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz.main(["--only", "tenants"]) == 0
    (tmp_path / "logs" / "web.log").write_text(LOG)
    assert fuzz.main(["--only", "tenants"]) == 1
    assert "web.log:2: ValueError: no such thing" in capsys.readouterr().err


def test_a_site_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: Any) -> Any:
        raise DemoFailed("`qosqueue up` was not ready")

    monkeypatch.setattr(fuzz, "running", away)
    assert fuzz.main([]) == 1
    assert "was not ready" in capsys.readouterr().err

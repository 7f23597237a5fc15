"""How does a test start a stock `celery` command, and a broker on loopback TCP that it may restart?"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from qosqueue.broker import embedded
from qosqueue.ops.child import ends_with_parent, kill_group
from tests.support.eventually import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_WITHIN_S = 20.0


def free_port() -> int:
    """A TCP port that nobody listens to now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class TcpBroker:
    """A server on loopback TCP, as a stranger's project has it. Every write is in its append-only file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client = redis.Redis(port=self._port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again on the same port and data; returns once it answers."""
        options = {
            "bind": "127.0.0.1",
            "port": f"{self._port}",
            "dir": f"{self._folder}",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [str(embedded.find_server()), *words], stdout=subprocess.DEVNULL, preexec_fn=ends_with_parent()
        )
        eventually(self._answers, within_s=10)

    def stop(self) -> None:
        """End it."""
        assert self._process is not None
        self.client.close()
        embedded.stop(self._process)

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError):
            return bool(self.client.ping())
        return False


@contextmanager
def tcp_broker() -> Iterator[TcpBroker]:
    """A broker that lives as long as the block."""
    folder = Path(tempfile.mkdtemp(prefix="qq-"))
    broker = TcpBroker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(folder)


class Command:
    """A running `celery` command."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def said(self, words: str) -> bool:
        """Whether its output has these words. AssertionError if it has ended without them."""
        output = self._log.read_text(errors="replace")
        assert words in output or self.process.poll() is None, output
        return words in output

    def stop(self) -> int:
        """Ask it to end (SIGTERM); its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_WITHIN_S)


@contextmanager
def celery(
    *arguments: str, app: str, env: Mapping[str, str], ready: str, folder: Path = REPOSITORY
) -> Iterator[Command]:
    """`celery -A app arguments`, from the time that it said `ready`; killed with its children if it still runs."""
    with tempfile.TemporaryDirectory(prefix="qq-") as logs:
        log = Path(logs) / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", app, *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}", "PYTHONUNBUFFERED": "1", **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=ends_with_parent(signal.SIGKILL),
            )
        command = Command(process, log)
        try:
            eventually(lambda: command.said(ready), within_s=30)
            yield command
        finally:
            if process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    command.stop()
            kill_group(process)
            process.wait()


@contextmanager
def compat_worker(
    url: str,
    *,
    pool: str = "prefork",
    slots: int = 2,
    queue: str = "celery",
    result_backend: str = "",
    models: Mapping[str, int] | None = None,
) -> Iterator[Command]:
    """A stock worker of the app in tests/support/compat_app.py."""
    name = f"{pool}@compat" if queue == "celery" else f"{queue}@compat"
    arguments = ("worker", "-P", pool, "-c", f"{slots}", "-l", "INFO", "-n", name, "-Q", queue)
    env = {"COMPAT_REDIS_URL": url, "COMPAT_RESULT_BACKEND": result_backend, "COMPAT_MODELS": json.dumps(models or {})}
    with celery(*arguments, app="tests.support.compat_app", env=env, ready=" ready.") as command:
        yield command

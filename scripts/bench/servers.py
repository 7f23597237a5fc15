"""How are the real processes of a benchmark started and stopped? In a home of their own, which goes away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from qosqueue.broker import embedded
from qosqueue.errors import QosqueueError
from qosqueue.ops.child import ends_with_parent, kill_group, last_line, spawn
from qosqueue.ops.parts import LISTEN_BACKLOG
from qosqueue.settings import PREFIX, Settings
from scripts.bench.machine import REPOSITORY

STOP_WITHIN_S = 20.0
LOOK_EVERY_S = 0.01


@contextmanager
def home_with_broker(**changes: object) -> Iterator[Settings]:
    """Settings of a fresh home with a running broker of its own (Unix socket, AOF everysec, as in production)."""
    home = Path(tempfile.mkdtemp(prefix="qqbench-"))
    settings = Settings.model_validate({"home": home, "redis_url": None, "database_url": None, **changes})
    try:
        broker = embedded.start(settings, before_exec=ends_with_parent())
        try:
            yield settings
        finally:
            embedded.stop(broker)
    finally:
        shutil.rmtree(home)


@contextmanager
def process(
    name: str,
    command: Sequence[str],
    settings: Settings,
    *,
    extra: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that home; `extra` adds to its environment. Stopped with SIGTERM, killed after 20 s."""
    child = spawn(command, env=environment(settings, extra), log=log_of(settings, name), keep_open=keep_open)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            kill_group(child)
            child.wait()


def environment(settings: Settings, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process of that home finds in its environment: nothing of another qosqueue, the repository to import."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**others, "PYTHONPATH": str(REPOSITORY), f"{PREFIX}HOME": str(settings.home), **(extra or {})}


@contextmanager
def gunicorn(name: str, app: str, settings: Settings, worker_class: str = "gthread") -> Iterator[int]:
    """A web server with the settings of `qosqueue up` for any WSGI application; its port on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0), backlog=LISTEN_BACKLOG) as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", app, "--worker-class", worker_class),
            *("--workers", "1", "--threads", str(settings.web_threads)),
            *("--bind", f"fd://{listener.fileno()}", "--graceful-timeout", "2", "--no-control-socket"),
        ]
        with process(name, command, settings, keep_open=(listener.fileno(),)):
            yield listener.getsockname()[1]


def log_of(settings: Settings, name: str) -> Path:
    """Where a process writes what it has to say."""
    return settings.home / "logs" / f"{name}.log"


def until(check: Callable[[], bool], within_s: float, what: str, log: Path | None = None) -> None:
    """Return once `check` holds; raises QosqueueError with one line if it does not in time."""
    give_up = time.monotonic() + within_s
    while not check():
        if time.monotonic() >= give_up:
            said = f"; its last words: {last_line(log)}" if log else ""
            raise QosqueueError(f"{what} did not happen within {within_s:g} s{said}")
        time.sleep(LOOK_EVERY_S)

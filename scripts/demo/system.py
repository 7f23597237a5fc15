"""How is a whole qosqueue brought up in a folder of its own, and gone without a trace afterwards?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from qosqueue.errors import QosqueueError
from qosqueue.ops.child import describe_end, kill_group, last_line, spawn
from qosqueue.ops.first_run import DEMO_TENANTS, MODEL_NAME
from qosqueue.policy.terms import Tier
from qosqueue.settings import PREFIX

Order = Literal["fifo", "qos"]

MODEL = MODEL_NAME
READY_WITHIN_S = 120.0
# More than the longest grace that `qosqueue up` gives its own processes.
END_WITHIN_S = 60.0
LOOK_EVERY_S = 0.1


class DemoFailed(QosqueueError):
    """The demonstration cannot go on; the text is one line."""


@dataclass(frozen=True)
class Site:
    """A running qosqueue: where it listens, its home, and one tenant's key for each tier."""

    home: Path
    host: str
    port: int
    keys: Mapping[Tier, str]


@contextmanager
def running(order: Order, prepare: Callable[[Path], None] = lambda home: None) -> Iterator[Site]:
    """`qosqueue up` on embedded defaults in a temporary home; everything is stopped when the block is left.

    `prepare` may put something into the home before.

    Raises DemoFailed with one line, also if a part of it died meanwhile: the figures would mean nothing. Should this
    process be killed, the kernel stops the other.
    """
    with tempfile.TemporaryDirectory(prefix="qosqueue-demo-") as folder:
        home = Path(folder)
        log = home / "up.log"
        prepare(home)
        process = spawn(
            [sys.executable, "-m", "qosqueue.cli", "up", "--host", "127.0.0.1", "--port", "0", "--json"],
            env=environment(os.environ, home, order),
            log=log,
        )
        try:
            yield _await_ready(process, home, log)
            _require_undisturbed(process, log)
        finally:
            _end(process)


def environment(shell: Mapping[str, str], home: Path, order: Order) -> dict[str, str]:
    """The shell's environment without its own qosqueue settings: the demonstration runs on the defaults."""
    others = {name: value for name, value in shell.items() if not name.startswith(PREFIX)}
    return others | {f"{PREFIX}HOME": str(home), f"{PREFIX}ORDER": order, f"{PREFIX}LOG_LEVEL": "WARNING"}


def _await_ready(process: subprocess.Popen[bytes], home: Path, log: Path) -> Site:
    end_s = time.monotonic() + READY_WITHIN_S
    pause = threading.Event()
    while (told := _ready_line(log)) is None:
        code = process.poll()
        if code is not None:
            raise DemoFailed(f"`qosqueue up` ended with {describe_end(code)}: {last_line(log)}")
        if time.monotonic() > end_s:
            raise DemoFailed(f"`qosqueue up` was not ready within {READY_WITHIN_S:g} s: {last_line(log)}")
        pause.wait(LOOK_EVERY_S)
    address = urlsplit(told["ready"])
    if address.hostname is None or address.port is None:
        raise DemoFailed(f"`qosqueue up` told no address: {told['ready']!r}")
    keys = {tier: told["keys"][name] for name, tier in DEMO_TENANTS.items()}
    return Site(home, address.hostname, address.port, keys)


def _require_undisturbed(process: subprocess.Popen[bytes], log: Path) -> None:
    code = process.poll()
    if code is not None:
        raise DemoFailed(f"`qosqueue up` ended with {describe_end(code)} during the load: {last_line(log)}")
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("qosqueue: ") and " ended with " in line:
            raise DemoFailed(f"a part died during the load: {line.removeprefix('qosqueue: ')}")


def _ready_line(log: Path) -> dict[str, Any] | None:
    lines = log.read_text(errors="replace").splitlines(keepends=True)
    return next((json.loads(line) for line in lines if line.startswith('{"ready"') and line.endswith("\n")), None)


def _end(process: subprocess.Popen[bytes]) -> None:
    interrupted: KeyboardInterrupt | None = None
    end_s = time.monotonic() + END_WITHIN_S
    process.terminate()
    while process.poll() is None and time.monotonic() < end_s:
        try:
            process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt as again:
            interrupted = again
            # A second signal makes `up` cut the grace of its processes short.
            process.terminate()
    kill_group(process)
    process.wait()
    if interrupted is not None:
        raise interrupted

"""How is one module of somebody else's tests run, and what does it report while it runs?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qosqueue.ops.child import ends_with_parent, kill_group, last_line
from qosqueue.settings import PREFIX

STARTUP = Path(__file__).with_name("startup")
TRANSPORT = "qosqueue.broker.transport:Transport"
LOOK_EVERY_S = 0.2
# The tests bound themselves with less; this one is for a process that hangs outside of a test.
MODULE_WITHIN_S = 1800
ONE_TEST_WITHIN_S = 300
NOTHING_COLLECTED = 5


@dataclass(frozen=True)
class Result:
    """What became of one test: passed, failed, skipped or xfailed."""

    suite: str
    test: str
    outcome: str
    seconds: float
    message: str


@dataclass
class Module:
    """One test module under way."""

    suite: str
    path: str
    results: list[Result] = field(default_factory=list)
    collected: int = 0


def run_module(
    module: Module,
    folder: Path,
    python: Path,
    port: int,
    logs: Path,
    *,
    stock: bool,
    arguments: Sequence[str],
) -> Iterator[Module]:
    """Run one module and yield it again whenever a test has ended, and once at the end.

    A process that ends by itself before its tests did is reported as one failed test named by the module.
    """
    name = f"{module.suite}-{Path(module.path).stem}"
    report, log = logs / f"{name}.jsonl", logs / f"{name}.log"
    report.write_text("")
    command = [
        *(str(python), "-m", "pytest", module.path, "-q", "-rfEX", f"--timeout={ONE_TEST_WITHIN_S}"),
        *("-p", "no:cacheprovider", "-p", "celery_suite_report", *arguments),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder, python.parent, port, report, stock=stock),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=ends_with_parent(signal.SIGKILL),
        )
        try:
            with report.open() as lines:
                waited_s = 0.0
                while waited_s < MODULE_WITHIN_S:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(LOOK_EVERY_S)
                    waited_s += LOOK_EVERY_S
                    if _take(module, lines.readlines()):
                        yield module
                    if process.returncode is not None:
                        break
        finally:
            # Also what a test started and forgot.
            kill_group(process)
            process.wait()
    if process.returncode not in (0, 1, NOTHING_COLLECTED):
        message = f"pytest ended with code {process.returncode}: {last_line(log)}"
        module.results.append(Result(module.suite, module.path, "failed", 0.0, message))
    yield module


def _take(module: Module, lines: list[str]) -> bool:
    for line in lines:
        told: dict[str, Any] = json.loads(line)
        if "collected" in told:
            module.collected = told["collected"]
        else:
            module.results.append(Result(suite=module.suite, **told))
    return bool(lines)


def _environment(folder: Path, commands: Path, port: int, report: Path, *, stock: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "CELERY_", "PYTHON"))}
    url = f"redis://127.0.0.1:{port}/0"
    return {
        **kept,
        # Some tests start `celery` by its name.
        "PATH": os.pathsep.join((str(commands), kept.get("PATH", os.defpath))),
        "PYTHONPATH": os.pathsep.join((str(STARTUP), str(folder))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "WORKER_LOGLEVEL": "INFO",
        "TEST_BROKER": url,
        "TEST_BACKEND": url,
        # Where Celery's and Kombu's tests look at the server themselves.
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(port),
        "REDIS_6379_TCP": str(port),
        "CELERY_SUITE_REPORT": str(report.resolve()),
        **({} if stock else {"CELERY_SUITE_TRANSPORT": TRANSPORT}),
    }

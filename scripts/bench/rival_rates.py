"""How fast are other task queues with the same work, each alone on a Redis like ours?

Their own values beside ours, for orientation. What is not installed is left out and told: `make rivals` installs it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from qosqueue.broker.address import client_url, connect
from qosqueue.errors import QosqueueError
from qosqueue.settings import Settings
from scripts.bench.machine import REPOSITORY
from scripts.bench.report import Figure, progress
from scripts.bench.rivals.program import URL_VARIABLE
from scripts.bench.servers import environment, home_with_broker, process
from scripts.bench.ways import DRAIN_WITHIN_S, next_number
from scripts.bench.work import CONCURRENCY, DRAINED, GATES, RELEASES

OWN_PYTHON = Path(sys.executable)
PYTHON_313 = REPOSITORY / ".venv" / "rivals-3.13" / "bin" / "python"
PROGRAM_WITHIN_S = 120.0
# RQ forks for each job: what the others do in a second takes it a minute.
FORKING_DIVISOR = 5


@dataclass(frozen=True)
class Rival:
    """A program of scripts/bench/rivals, its name among the figures, what it needs, and its share of the tasks."""

    name: str
    module: str
    package: str
    python: Path = OWN_PYTHON
    divisor: int = 1

    def installed(self) -> bool:
        """Whether it can run here."""
        if self.python != OWN_PYTHON:
            return self.python.exists()
        return importlib.util.find_spec(self.package) is not None

    def command(self, *arguments: str) -> list[str]:
        """The command line of its program."""
        return [str(self.python), "-m", f"scripts.bench.rivals.{self.module}", *arguments]


RIVALS = (
    Rival("celery_priorities", "celery_priorities", "celery"),
    Rival("celery_redis_plus", "celery_redis_plus", "celery_redis_plus", python=PYTHON_313),
    Rival("dramatiq", "dramatiq_queue", "dramatiq"),
    Rival("rq", "rq_queue", "rq", divisor=FORKING_DIVISOR),
)


def rival_figures(rounds: int, *, submits: int, drains: int) -> list[Figure]:
    """`NAME_submit_per_s` and `NAME_drain_per_s` of each rival that is installed."""
    figures = []
    for rival in RIVALS:
        if not rival.installed():
            progress(f"{rival.name}: not installed, left out; `make rivals` installs it")
            continue
        with home_with_broker() as settings, connect(settings, socket_timeout_s=None) as client:
            submit = [_submit_rate(rival, settings, client, submits) for _ in range(rounds)]
            drain = _drain_rates(rival, settings, client, rounds, drains // rival.divisor)
        for what, rates in (("submit", submit), ("drain", drain)):
            figures.append(Figure(f"{rival.name}_{what}_per_s", rates, "1/s"))
        progress(f"{rival.name}: submit {figures[-2].value:g}/s, drain {figures[-1].value:g}/s")
    return figures


def _submit_rate(rival: Rival, settings: Settings, client: redis.Redis, count: int) -> float:
    rate = float(_run(rival, settings, "submit", str(count)))
    client.flushdb()
    return rate


def _drain_rates(rival: Rival, settings: Settings, client: redis.Redis, rounds: int, count: int) -> list[float]:
    """Tasks a second of a worker, from the first start to the last end; the first round is the warm-up."""
    rates = []
    with _worker(rival, settings):
        for number in range(-1, rounds):
            tasks = count if number >= 0 else count // 4
            _run(rival, settings, "fill", str(tasks))
            client.delete(GATES)
            client.rpush(RELEASES, *["1"] * CONCURRENCY)
            took_s = next_number(client, DRAINED, DRAIN_WITHIN_S)
            if number >= 0:
                rates.append(tasks / took_s)
    return rates


@contextmanager
def _worker(rival: Rival, settings: Settings) -> Iterator[None]:
    with process(rival.name, rival.command("work"), settings, extra=_where(settings)):
        yield


def _run(rival: Rival, settings: Settings, *arguments: str) -> str:
    """What the program says; raises QosqueueError with its last line if it fails."""
    done = subprocess.run(
        rival.command(*arguments),
        env=environment(settings, _where(settings)),
        capture_output=True,
        text=True,
        timeout=PROGRAM_WITHIN_S,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise QosqueueError(f"{rival.name} {arguments[0]} ended with code {done.returncode}: {last}")
    return done.stdout


def _where(settings: Settings) -> Mapping[str, str]:
    return {URL_VARIABLE: client_url(settings)}

"""How fast are other task queues with the same work, each on a Redis of its own like ours?

Their values stand beside ours, for orientation. What is not installed is left out and told: `make rivals` installs it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from qosqueue.broker.address import client_url, connect
from qosqueue.errors import QosqueueError
from qosqueue.settings import Settings
from scripts.bench.machine import REPOSITORY
from scripts.bench.report import progress
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


class RivalRates:
    """The installed rivals, each with a broker of its own, asked once a round between ours and stock: A B A B."""

    def __init__(self, running: ExitStack) -> None:
        self._brokers: dict[Rival, tuple[Settings, redis.Redis]] = {}
        for rival in RIVALS:
            if not rival.installed():
                progress(f"{rival.name}: not installed, left out; `make rivals` installs it")
                continue
            settings = running.enter_context(home_with_broker())
            self._brokers[rival] = settings, running.enter_context(connect(settings, socket_timeout_s=None))

    @contextmanager
    def workers(self) -> Iterator[None]:
        """A worker of each."""
        with ExitStack() as running:
            for rival, (settings, _) in self._brokers.items():
                running.enter_context(_worker(rival, settings))
            yield

    def submit(self, count: int) -> dict[str, float]:
        """Tasks a second that each publishes."""
        rates = {}
        for rival, (settings, client) in self._brokers.items():
            rates[rival.name] = float(_run(rival, settings, "submit", str(count)))
            client.flushdb()
        return rates

    def drain(self, count: int) -> dict[str, float]:
        """Tasks a second of each one's worker, from the first start to the last end."""
        rates = {}
        for rival, (settings, client) in self._brokers.items():
            tasks = count // rival.divisor
            _run(rival, settings, "fill", str(tasks))
            client.delete(GATES)
            client.rpush(RELEASES, *["1"] * CONCURRENCY)
            rates[rival.name] = tasks / next_number(client, DRAINED, DRAIN_WITHIN_S)
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

"""How is simulated work played in real time, on real Celery workers with a broker of their own?

The scene's clock runs `speed` times faster than the wall's: everything is sent, held and waited for that much shorter,
and what was seen is told in the scene's own milliseconds again.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import redis

from qosqueue.broker.address import connect
from qosqueue.broker.replicas import Replicas
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import QosqueueError
from qosqueue.ops.child import describe_end, last_line
from qosqueue.policy.terms import TaskType
from qosqueue.service.pools import Pools
from qosqueue.service.watchdog import AT_ONCE
from qosqueue.settings import Settings
from scripts.bench.policies.interface import Request
from scripts.bench.policies.qosqueue import priority_of
from scripts.bench.real import journal
from scripts.bench.real.producer import BEGIN
from scripts.bench.real.ways import QOSQUEUE, message, order_of
from scripts.bench.real.worker import READY
from scripts.bench.servers import home_with_broker, log_of, process, until
from scripts.bench.sim.loop import NOT_STARTED, Outcome
from scripts.bench.sim.work import Work

WORKERS = 2
START_WITHIN_S = 60.0
LEAD_S = 0.5  # from the word to begin to the first instant of the scene
NS = 1_000_000_000


@dataclass(frozen=True)
class Played:
    """What became of the requests, in the scene's time; and how far the machine kept up, in real time.

    `late_ms` is how long after its instant each request was published; `cpu_part` is the part of the machine's cores
    that the run's own processes used.
    """

    outcome: Outcome
    late_ms: Sequence[float]
    cpu_part: float


def play(way: str, work: Work, speed: float) -> Played:
    """Drive the work through a way until every request has started or is out of its budget.

    Raises QosqueueError if a process of it fails.
    """
    last_ms = max(request.arrival_ms + request.budget_ms for request in work.requests)
    before_s, began_s = _children_s(), time.monotonic()
    with home_with_broker(order=order_of(way)) as settings:
        folder = settings.home / "journals"
        folder.mkdir()
        with connect(settings) as client, _running(way, work, speed, settings, folder, client) as children:
            sweep = _watchdog(way, work, speed, settings, client)
            sweep()
            begin_ns = time.monotonic_ns() + round(LEAD_S * NS)
            client.rpush(BEGIN, *[begin_ns] * (len(children) - WORKERS))
            while True:
                sweep()
                _check(children, settings)
                over_ms = _scene_ms(time.monotonic_ns(), begin_ns, speed)
                if over_ms > last_ms or len(journal.read(folder, "started")) == len(work.requests):
                    break
                time.sleep(settings.sweep_ms / 1000)
        published, started, ended = (journal.read(folder, event) for event in ("published", "started", "ended"))
    used = (_children_s() - before_s) / ((time.monotonic() - began_s) * len(os.sched_getaffinity(0)))
    late_ms = [
        (at_ns - begin_ns) / 1e6 - work.requests[number].arrival_ms / speed for number, at_ns in published.items()
    ]
    return Played(_outcome(work, speed, begin_ns, started, ended, over_ms), late_ms, used)


@contextmanager
def _running(
    way: str, work: Work, speed: float, settings: Settings, folder: Path, client: redis.Redis
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The workers and a producer for each type of task, all ready: a batch job's many chunks hold up nobody else."""
    commands = {}
    for number in range(WORKERS):
        name = f"worker-{number}"
        slots = work.pool.slots // WORKERS + (number < work.pool.slots % WORKERS)
        commands[name] = ["scripts.bench.real.worker", way, name, str(slots), str(folder)]
    for task_type in TaskType:
        requests = [request for request in work.requests if request.task_type is task_type]
        if requests:
            path = folder / f"{task_type}.jsonl"
            path.write_text("".join(_line(way, request, speed) for request in requests), "utf-8")
            commands[path.name] = ["scripts.bench.real.producer", way, str(path), str(folder)]
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(
                process(name, [sys.executable, "-m", *command], settings, extra={"QOSQUEUE_ORDER": settings.order})
            )
            for name, command in commands.items()
        }

        def ready() -> bool:
            _check(children, settings)
            return client.scard(READY) == len(children)

        until(ready, START_WITHIN_S, "the start of workers and producers")
        yield children


def _check(children: Mapping[str, subprocess.Popen[bytes]], settings: Settings) -> None:
    """Raise QosqueueError if one has failed."""
    for name, child in children.items():
        if code := child.poll():
            raise QosqueueError(f"{name} failed ({describe_end(code)}): {last_line(log_of(settings, name))}")


def _line(way: str, request: Request, speed: float) -> str:
    """What a producer needs of a request, at the wall's speed. Its priority is that of the scene's budget."""
    fast = replace(
        request,
        budget_ms=max(1, round(request.budget_ms / speed)),
        service_ms=max(1, round(request.service_ms / speed)),
        predicted_ms=max(1, round(request.predicted_ms / speed)),
    )
    told = {"at_ms": request.arrival_ms / speed, "message": message(way, fast, priority_of(request))}
    return f"{json.dumps(told)}\n"


def _watchdog(way: str, work: Work, speed: float, settings: Settings, client: redis.Redis) -> Callable[[], None]:
    """One sweep of what the watchdog does for the order; nothing where the order is not ours."""
    if way != QOSQUEUE:
        return lambda: None
    scripts = Scripts(client, settings.group)
    budgets_ms = {tier: round(budget_ms / speed) for tier, budget_ms in work.pool.budgets_ms.items()}
    pools = Pools(scripts, Replicas(client, settings.group), budgets_ms)

    def sweep() -> None:
        scripts.reap(limit=AT_ONCE)
        scripts.age(limit=AT_ONCE)
        pools.refresh()

    return sweep


def _outcome(
    work: Work, speed: float, begin_ns: int, started: dict[int, int], ended: dict[int, int], over_ms: int
) -> Outcome:
    """The instants in the scene's ms. What still ran when all was over ends with its service, as it was to."""
    started_ms = array("q", [NOT_STARTED]) * len(work.requests)
    ended_ms = array("q", [NOT_STARTED]) * len(work.requests)
    for number, at_ns in started.items():
        started_ms[number] = max(work.requests[number].arrival_ms, _scene_ms(at_ns, begin_ns, speed))
        until_ns = ended.get(number)
        ended_ms[number] = (
            started_ms[number] + work.requests[number].service_ms
            if until_ns is None
            else _scene_ms(until_ns, begin_ns, speed)
        )
    return Outcome(work.requests, started_ms, ended_ms, 0, over_ms)


def _scene_ms(at_ns: int, begin_ns: int, speed: float) -> int:
    return round((at_ns - begin_ns) * speed / 1e6)


def _children_s() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

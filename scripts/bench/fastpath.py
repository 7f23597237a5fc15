"""What does qosqueue add to a synchronous request, over calling the engine directly?

    added_p50_ms, added_p99_ms             first streamed token through the web server, the broker and the worker, less
                                           the same engine called in process; one client
    added_half_p50_ms, added_half_p99_ms   the same while others send half of what the road carries (both ways)
    added_p50_over_floor                   added_p50_ms / the answer time of the floor (scripts/bench/floor.py)
    requests_per_s_vs_floor                whole answers a second, not streamed, eight clients / the floor's
    streamed_per_s_vs_floor                the same with streamed answers

The floor is a bare Flask route under gunicorn's own worker; `…_floor_here` among the baselines is the same route under
the worker that serves qosqueue (web/server.py).

Everything is real but the model: gunicorn with qosqueue's web app, the Celery worker, Valkey, SQLite, and the declared
simulated engine with steps of 0 ms, so that all the time is the road's.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from qosqueue.ops.parts import WORKER_CLASS
from qosqueue.policy.terms import Tier
from qosqueue.store.schema import upgrade
from qosqueue.wiring import build
from qosqueue_workers.engines.base import Choices, Engine, EngineRequest
from qosqueue_workers.engines.registry import make_engine
from scripts.bench.client import Load, apply, background
from scripts.bench.report import Bar, Figure, Report, arguments, percentile, progress, run
from scripts.bench.servers import gunicorn, home_with_broker, log_of, process, until

MODEL, SLOTS = "simulated", 8
CLIENTS = 8
BACKGROUND_CLIENTS = 16
START_WITHIN_S = 60.0
ACTOR = "bench"
CHAT = "/v1/chat/completions"
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 1,
}
# The chunk that only names the role has an empty text.
FIRST_TOKEN = '"content":"[^"]'


@dataclass(frozen=True)
class Road:
    """The running system: the ways that are compared, and the engine at the end of ours.

    `floor` is served as anybody would, by gunicorn's own threads; `floor_here` by the same web server as ours.
    """

    ours: Load
    floor: Load
    floor_here: Load
    stock: Load
    engine: Engine


@dataclass(frozen=True)
class Round:
    """What one round measured: first tokens in ms, idle and at half load; answers a second."""

    idle_ms: dict[str, list[float]]
    half_ms: dict[str, list[float]]
    per_s: dict[str, float]


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    options = arguments("fastpath", __doc__.split("\n")[0], given)
    return run(lambda: measure(options.rounds, options.seed, quick=options.quick))


def measure(rounds: int, seed: int, *, quick: bool) -> Report:
    """All figures of one run."""
    calls, seconds = (50, 0.8) if quick else (200, 2.0)
    with running_road() as road:
        one_round(road, 25, 0.5, seed)  # the warm-up
        seen = []
        for number in range(rounds):
            seen.append(one_round(road, calls, seconds, seed + number))
            told = ", ".join(f"{way} {percentile(times, 50):.2f} ms" for way, times in seen[-1].idle_ms.items())
            progress(
                f"round {number + 1}: {told}; {seen[-1].per_s['ours']:.0f}/s, floor {seen[-1].per_s['floor']:.0f}/s"
            )
    return Report("fastpath", seed, _figures(seen), _baselines(seen))


def one_round(road: Road, calls: int, seconds: float, seed: int) -> Round:
    """Each way once: alone, then eight clients at once; then ours at half of what it carried."""
    ways = {"ours": road.ours, "floor": road.floor, "stock": road.stock, "floor_here": road.floor_here}
    idle_ms = {"engine": engine_first_ms(road.engine, calls)}
    idle_ms |= {way: apply(replace(load, requests=calls)).first_ms for way, load in ways.items()}
    plain = replace(road.ours, body=BODY, first="")
    crowd = {
        "ours": plain,
        "floor": road.floor,
        "streamed": road.ours,
        "floor_here": road.floor_here,
        "stock": road.stock,
    }
    per_s = {way: apply(replace(load, clients=CLIENTS, seconds=seconds)).per_s for way, load in crowd.items()}
    half_per_s = per_s["streamed"] / 2
    with calling(road.engine, half_per_s, seed):
        half_ms = {"engine": engine_first_ms(road.engine, calls)}
    crowd_load = replace(road.ours, clients=BACKGROUND_CLIENTS, per_s=half_per_s, seconds=START_WITHIN_S, seed=seed)
    with background(crowd_load):
        half_ms["ours"] = apply(replace(road.ours, requests=calls)).first_ms
    return Round(idle_ms, half_ms, per_s)


@contextmanager
def running_road() -> Iterator[Road]:
    """Everything started, with a tenant and the simulated model; stopped at the end."""
    with ExitStack() as stack:
        settings = stack.enter_context(home_with_broker())
        upgrade(settings.sql_url())
        services = build(settings)
        model = services.catalog.add_model(
            MODEL,
            "simulated",
            actor=ACTOR,
            memory_bytes=1_000_000,
            context_tokens=2_048,
            slots=SLOTS,
            options={"prefill_ms_per_token": 0, "step_ms": 0, "step_ms_per_sequence": 0},
        )
        tenant = services.accounts.create_tenant("bench", Tier.VIP, actor=ACTOR)
        key = services.accounts.create_key(tenant.name, actor=ACTOR).key
        stack.enter_context(process("worker", [sys.executable, "-m", "qosqueue_workers"], settings))
        for name, part in (("echo", "echo"), ("stock-worker", "worker")):
            stack.enter_context(process(name, [sys.executable, "-m", "scripts.bench.floor", part], settings))
        port = stack.enter_context(gunicorn("web", "qosqueue_web.app:create_app()", settings, WORKER_CLASS))
        here_port = stack.enter_context(
            gunicorn("floor-here", "scripts.bench.floor:create_app()", settings, WORKER_CLASS)
        )
        floor_port = stack.enter_context(gunicorn("floor", "scripts.bench.floor:create_app()", settings))
        until(lambda: bool(services.replicas.list()), START_WITHIN_S, "the worker's start", log_of(settings, "worker"))
        engine = make_engine(model)
        engine.load()
        stack.callback(engine.close)
        headers = {"Authorization": f"Bearer {key}"}
        yield Road(
            ours=Load(port, CHAT, {**BODY, "stream": True}, headers, FIRST_TOKEN),
            floor=Load(floor_port, "/floor", BODY),
            floor_here=Load(here_port, "/floor", BODY),
            stock=Load(floor_port, "/stock", BODY),
            engine=engine,
        )


def engine_first_ms(engine: Engine, calls: int) -> list[float]:
    """Milliseconds to the first token of the engine, called in this process."""
    taken = []
    for number in range(calls):
        first: list[float] = []

        def emit(choices: Choices, first: list[float] = first) -> None:
            if not first and choices[0]["delta"].get("content"):
                first.append(time.perf_counter())

        began = time.perf_counter()
        engine.stream(EngineRequest(f"direct-{number}", CHAT, BODY), emit)
        taken.append((first[0] - began) * 1000)
    return taken


@contextmanager
def calling(engine: Engine, per_s: float, seed: int) -> Iterator[None]:
    """A thread that calls the engine so often, at random instants, for as long as the block takes."""
    stop, chance = threading.Event(), random.Random(seed)

    def call() -> None:
        number = 0
        while not stop.wait(chance.expovariate(per_s)):
            engine.stream(EngineRequest(f"other-{number}", CHAT, BODY), lambda choices: None)
            number += 1

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _figures(seen: list[Round]) -> list[Figure]:
    def added(when: str, percent: float) -> list[float]:
        times = [getattr(one, when) for one in seen]
        return [percentile(one["ours"], percent) - percentile(one["engine"], percent) for one in times]

    floors = [percentile(one.idle_ms["floor"], 50) for one in seen]
    return [
        Figure("added_p50_ms", added("idle_ms", 50), "ms"),
        Figure("added_p99_ms", added("idle_ms", 99), "ms"),
        Figure("added_half_p50_ms", added("half_ms", 50), "ms"),
        Figure("added_half_p99_ms", added("half_ms", 99), "ms"),
        Figure(
            "added_p50_over_floor",
            [ours / floor for ours, floor in zip(added("idle_ms", 50), floors, strict=True)],
            bar=Bar("<=", 1.5),
        ),
        Figure("requests_per_s_vs_floor", [one.per_s["ours"] / one.per_s["floor"] for one in seen], bar=Bar(">=", 0.7)),
        Figure("streamed_per_s_vs_floor", [one.per_s["streamed"] / one.per_s["floor"] for one in seen]),
    ]


def _baselines(seen: list[Round]) -> list[Figure]:
    def p50(way: str) -> list[float]:
        return [percentile(one.idle_ms[way], 50) for one in seen]

    return [
        Figure(
            "stock_p50_over_floor", [stock / floor for stock, floor in zip(p50("stock"), p50("floor"), strict=True)]
        ),
        Figure(
            "added_p50_over_floor_here",
            [
                (ours - engine) / floor
                for ours, engine, floor in zip(p50("ours"), p50("engine"), p50("floor_here"), strict=True)
            ],
        ),
        Figure("requests_per_s_vs_floor_here", [one.per_s["ours"] / one.per_s["floor_here"] for one in seen]),
        *(Figure(f"{way}_p50_ms", p50(way), "ms") for way in ("engine", "floor", "floor_here", "stock")),
        *(
            Figure(f"{way}_per_s", [one.per_s[way] for one in seen], "1/s")
            for way in ("ours", "floor", "floor_here", "stock")
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())

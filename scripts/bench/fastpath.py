"""What does qosqueue add to a synchronous request, over calling the engine directly?

    added_p50_ms, added_p99_ms             first streamed token through the web server, the broker and the worker, less
                                           the same engine called in process; one client
    added_half_p50_ms, added_half_p99_ms   the same while others send half of what the road carries (both ways)
    added_p50_over_floor                   added_p50_ms / the answer time of the floor (scripts/bench/floor.py)
    requests_per_s_vs_floor                whole answers a second, not streamed, eight clients / the floor's
    streamed_per_s_vs_floor                the same with streamed answers

Everything is real but the model: gunicorn with qosqueue's web app, the Celery worker, Valkey, SQLite, and the declared
simulated engine with steps of 0 ms, so that all the time is the road's.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from qosqueue.policy.terms import Tier
from qosqueue.settings import Settings
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
# The first chunk only names the role; a token's chunk has text in it.
FIRST_TOKEN = '"content":"0'  # placeholder, see first_token()


@dataclass(frozen=True)
class Road:
    """The running system: the three loads that are compared, and the engine itself."""

    ours: Load
    floor: Load
    stock: Load
    engine: Engine


def main(given: Sequence[str] | None = None) -> None:
    """Run the benchmark and exit."""
    options = arguments("fastpath", __doc__.split("\n")[0], given)
    run(lambda: measure(options.rounds, options.seed, quick=options.quick))

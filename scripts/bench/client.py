"""What does a client of the HTTP API see? Raw keep-alive connections in a process of their own.

`python -m scripts.bench.client` takes one JSON object on stdin (the fields of `Load`) and prints one (of `Seen`).
Only the standard library is used: what the client itself takes is the same small share of every way.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from qosqueue.errors import QosqueueError
from scripts.bench.machine import REPOSITORY

TIMEOUT_S = 30
ANSWER_WITHIN_S = 120
COMMAND = [sys.executable, "-m", "scripts.bench.client"]


@dataclass(frozen=True)
class Load:
    """Requests to send. Closed loop: `clients` connections with `requests` each, or as many as fit in `seconds`.

    `per_s` makes it an open loop: about so many a second by all connections together, at random instants. `first`
    is a pattern that finds the line with the first token; empty: the answer's end counts.
    """

    port: int
    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    first: str = ""
    clients: int = 1
    requests: int = 0
    seconds: float = 0.0
    per_s: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """Milliseconds to the first token of each request; whole answers a second."""

    first_ms: list[float]
    per_s: float


def apply(load: Load) -> Seen:
    """Run the load in a client process and wait for it."""
    told = subprocess.run(
        COMMAND, input=json.dumps(asdict(load)), capture_output=True, text=True, cwd=REPOSITORY, timeout=ANSWER_WITHIN_S
    )
    if told.returncode:
        raise QosqueueError(f"the client of {load.path} failed: {told.stderr.strip().splitlines()[-1:]}")
    return Seen(**json.loads(told.stdout))


@contextmanager
def background(load: Load) -> Iterator[None]:
    """The load in a client process, for as long as the block takes (`seconds` must be longer)."""
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=REPOSITORY)
    if process.stdin is None:
        raise AssertionError("the client was started with a pipe")
    with process.stdin as pipe:
        json.dump(asdict(load), pipe)
    try:
        yield
        if process.poll() is not None:
            raise QosqueueError("the load in the background ended too early")
    finally:
        process.kill()
        process.wait()


def send(load: Load) -> Seen:
    """Run the load here."""
    first_ms: list[float] = []
    faults: list[BaseException] = []

    def client(number: int) -> None:
        try:
            first_ms.extend(_one_connection(load, number))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(load.clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return Seen(first_ms, len(first_ms) / (time.perf_counter() - began))


def _one_connection(load: Load, number: int) -> list[float]:
    body = json.dumps(load.body).encode()
    headers = {"Content-Type": "application/json", **load.headers}
    first = re.compile(load.first.encode())
    first_ms: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=TIMEOUT_S)
    connection.connect()
    for _ in _instants(load, number):
        began = time.perf_counter()
        try:
            connection.request("POST", load.path, body, headers)
        except (BrokenPipeError, ConnectionResetError):  # the server closes connections that were idle for long
            connection.close()
            connection.request("POST", load.path, body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {answer.read()[:300]!r}")
        while load.first and not first.search(line := answer.readline()):
            if not line:
                raise RuntimeError("the answer had no token")
        if not load.first:
            answer.read()
        first_ms.append((time.perf_counter() - began) * 1000)
        answer.read()
    connection.close()
    return first_ms


def _instants(load: Load, number: int) -> Iterator[None]:
    """Yields when the next request of this connection is to be sent."""
    chance = random.Random(load.seed * 1000 + number)
    until = time.perf_counter() + load.seconds
    due = time.perf_counter()
    sent = 0
    while sent < load.requests if load.requests else time.perf_counter() < until:
        if load.per_s:
            due += chance.expovariate(load.per_s / load.clients)
            time.sleep(max(0.0, due - time.perf_counter()))
        yield
        sent += 1


if __name__ == "__main__":
    json.dump(asdict(send(Load(**json.load(sys.stdin)))), sys.stdout)

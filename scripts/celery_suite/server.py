"""Which broker do the tests of others run on? A throw-away one on loopback TCP: their URLs name a host and a port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from qosqueue.broker import embedded
from qosqueue.errors import BrokerUnavailable
from qosqueue.ops.child import ends_with_parent
from scripts.bench.servers import until

START_WITHIN_S = 10.0


@contextmanager
def broker(binary: Path | None = None) -> Iterator[int]:
    """The port of a server that keeps nothing; by default the embedded broker's binary."""
    folder = tempfile.mkdtemp(prefix="qqsuite-")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(str(binary or embedded.find_server()), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder),
        *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
    ]
    try:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=ends_with_parent()) as process:
            try:
                with redis.Redis(port=port) as client:
                    until(lambda: _answers(client, process), START_WITHIN_S, "the broker's first answer")
                yield port
            finally:
                process.terminate()
    finally:
        shutil.rmtree(folder)


def empty(port: int) -> None:
    """Forget everything: each module of tests begins on an empty server."""
    with redis.Redis(port=port) as client:
        client.flushall()


def _answers(client: redis.Redis, process: subprocess.Popen[bytes]) -> bool:
    if (code := process.poll()) is not None:
        raise BrokerUnavailable(f"the broker ended with code {code}")
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False

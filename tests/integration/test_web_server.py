"""Does the web server stay with a client that asks again, and with no client when others wait or it has to stop?"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from qosqueue.ops.parts import LISTEN_BACKLOG, WORKER_CLASS

APPLICATION = """
import threading
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [threading.current_thread().name.encode()]
"""


@contextmanager
def serving(tmp_path: Path, threads: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Port and process of a server with so many threads, which answers with the name of the thread at work."""
    (tmp_path / "application.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0), backlog=LISTEN_BACKLOG) as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", "application:application", "--worker-class", WORKER_CLASS),
            *("--workers", "1", "--threads", str(threads), "--bind", f"fd://{listener.fileno()}"),
            *("--no-control-socket", "--log-level", "error"),
        ]
        process = subprocess.Popen(command, cwd=tmp_path, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()[1], process
        finally:
            process.kill()
            process.wait()


def ask(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


@contextmanager
def clients_of(port: int, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Clients that keep their connections until the block ends."""
    with ExitStack() as stack:
        made = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(count)]
        for each in made:
            stack.callback(each.close)
        yield made


def test_a_client_that_asks_again_meets_the_same_thread(tmp_path: Path) -> None:
    with serving(tmp_path, threads=8) as (port, _), clients_of(port, 2) as (first, second):
        seen = [(ask(first), ask(second)) for _ in range(20)]
        assert len(set(seen)) == 1, seen
        assert seen[0][0] != seen[0][1]


@pytest.mark.alone
@pytest.mark.parametrize("threads", [1, 2])
def test_more_clients_than_threads_are_all_answered_at_once(tmp_path: Path, threads: int) -> None:
    with serving(tmp_path, threads=threads) as (port, _), clients_of(port, 6) as clients:
        for client in clients:
            assert ask(client)
        began = time.perf_counter()
        for _ in range(5):
            for client in clients:
                assert ask(client)
        # Were a thread held for an idle client, each of the 30 answers would wait for it.
        assert time.perf_counter() - began < 2.0


def test_it_stops_although_a_client_keeps_its_connection(tmp_path: Path) -> None:
    with serving(tmp_path, threads=8) as (port, process), clients_of(port, 1) as (client,):
        assert ask(client)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

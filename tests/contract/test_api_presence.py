"""Is a client that leaves without a word noticed, also while nothing is written to it?"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue_web.api.presence import client_gone
from tests.support.memory_services import MODEL, MemoryServices

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


@pytest.mark.parametrize("timeout_s", [None, 0.0, 60.0])
def test_gone_only_after_close(ends: tuple[socket.socket, socket.socket], timeout_s: float | None) -> None:
    server, client = ends
    server.settimeout(timeout_s)
    environ = {"gunicorn.socket": server}
    assert not client_gone(environ)
    client.send(b"next request")
    assert not client_gone(environ)
    assert server.recv(12) == b"next request"
    client.close()
    assert client_gone(environ)


def test_closed_here_counts_as_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    assert client_gone({"gunicorn.socket": ends[0]})


def test_unknown_where_no_socket_is_shown() -> None:
    assert not client_gone({})


@pytest.mark.parametrize("stream", [False, True])
def test_its_call_ends(
    client: FlaskClient,
    services: MemoryServices,
    auth: dict[str, str],
    ends: tuple[socket.socket, socket.socket],
    stream: bool,
) -> None:
    """Nothing ever happens to this request: only the look at the socket can end it."""
    services.online.script = lambda request: [threading.Event()]
    leaving = threading.Timer(0.05, ends[1].close)
    leaving.start()
    response = client.post(
        "/v1/chat/completions",
        json={**CHAT, "stream": stream},
        headers=auth,
        environ_overrides={"gunicorn.socket": ends[0]},
    )
    leaving.join()
    assert response.text.replace(": keep-alive\n\n", "") == ""
    response.close()
    assert services.online.calls[0].closed.is_set()

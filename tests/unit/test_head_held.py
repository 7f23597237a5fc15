"""Does the head of an answer go out with what comes first of its body, and never get lost?"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from qosqueue_web.server import HeadHeld


class Pair:
    """A held socket and its other end."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.held = HeadHeld(ours)
        self.theirs = theirs
        theirs.settimeout(0.05)

    def heard(self) -> bytes:
        try:
            return self.theirs.recv(1_000)
        except TimeoutError:
            return b""


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Pair(ours, theirs)


def test_the_head_goes_with_the_first_piece_and_the_rest_at_once(pair: Pair) -> None:
    pair.held.sendall(b"head ")
    assert pair.heard() == b""
    pair.held.sendall(b"first")
    assert pair.heard() == b"head first"
    pair.held.sendall(b"second")
    assert pair.heard() == b"second"


def test_an_answer_without_a_body_is_flushed_once(pair: Pair) -> None:
    pair.held.sendall(b"head")
    pair.held.flush()
    pair.held.flush()
    assert pair.heard() == b"head"


def test_a_file_comes_after_its_head(pair: Pair, tmp_path: object) -> None:
    pair.held.sendall(b"head ")
    with open(f"{tmp_path}/body", "w+b") as body:
        body.write(b"body")
        body.seek(0)
        pair.held.sendfile(body)
    assert pair.theirs.recv(1_000) + pair.heard() == b"head body"


def test_a_client_that_is_gone_is_no_fault(pair: Pair) -> None:
    pair.held.sendall(b"head")
    pair.theirs.close()
    pair.held.flush()


def test_everything_else_is_the_sockets(pair: Pair) -> None:
    assert pair.held.fileno() > 0
    pair.theirs.sendall(b"x")
    assert pair.held.recv(1, socket.MSG_PEEK) == b"x"

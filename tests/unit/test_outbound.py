"""Is nothing called that only this machine may reach, in whatever notation, and does no receiver hold a sender?"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from qosqueue.errors import InvalidField
from qosqueue.service import outbound
from qosqueue.service.outbound import Answered, Refused, Unreached, checked_url, is_public, post
from tests.support.receiver import Receiver, receiving

PRIVATE = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0",
    "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0xa9fea9fe", "100.64.0.1", "192.0.0.1", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[fe80::1]", "[fc00::1]", "[fd12::1]", "[ff02::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:1::1]",
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "db.internal",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_host_is_refused_when_it_is_given(host: str) -> None:
    with pytest.raises(InvalidField, match=r"^url: expected an https:// URL of a public host"):
        checked_url(f"https://{host}/hook", private_allowed=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "file:///etc/passwd", "ftp://example.com/", "gopher://example.com", "https:///x", "https://",
        "example.com", "", "https://user@example.com/", "https://user:word@example.com/", "https://example.com/#part",
        "https://example.com:0/", "https://example.com:99999/", "https://exa mple.com/", "https://example.com/\r\nX: y",
        "https://127。0。0。1/", "https://ⓛocalhost/", "https://[::1", "https://example.com\\@127.0.0.1/",
        "//example.com/",
        f"https://example.com/{'x' * 2048}", None, 5, "https://a..example.com/", f"https://{'x' * 64}.com/", "https://a!b.com",
    ],
)  # fmt: skip
def test_what_is_no_public_https_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidField):
        checked_url(url, private_allowed=False)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://xn--bcher-kva.example:8443/a?b=c", "https://93.184.215.14/"]
)
def test_a_public_url_is_taken(url: str) -> None:
    assert checked_url(url, private_allowed=False) == url


def test_for_development_private_ones_are_taken_but_no_other_scheme() -> None:
    assert checked_url("http://localhost:1/", private_allowed=True)
    with pytest.raises(InvalidField):
        checked_url("file:///etc/passwd", private_allowed=True)


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"])
def test_public_addresses(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def resolved(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names give these addresses, one answer after the other; the names that were asked for."""
    asked: list[str] = []
    waiting = list(answers)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in waiting.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Refused, match=r"^10\.0\.0\.1 is not a public address$"):
        post("https://example.com/", b"", {}, private_allowed=False)


def test_the_connection_goes_to_the_address_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolved(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    called: list[Any] = []

    def create_connection(address: Any, *_: Any) -> socket.socket:
        called.append(address)
        raise OSError("stop here")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    assert isinstance(post("https://example.com/", b"", {}, private_allowed=False), Unreached)
    assert (asked, called) == (["example.com"], [("8.8.8.8", 443)])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def test_only_the_beginning_of_an_answer_is_read(receiver: Receiver) -> None:
    receiver.answers = [(200, {}, b"\x00\xff" + b"x" * 1_000_000)]
    answer = post(receiver.url, b"{}", {}, private_allowed=True)
    assert isinstance(answer, Answered)
    assert (answer.status, len(answer.text)) == (200, outbound.READ_BYTES - 1)


def test_a_certificate_that_nobody_vouches_for_is_refused(receiver: Receiver) -> None:
    answer = post(f"https://127.0.0.1:{receiver.port}/", b"{}", {}, private_allowed=True)
    assert isinstance(answer, Unreached)
    assert "SSL" in answer.reason
    assert receiver.received == []


def test_a_receiver_that_talks_for_ever_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; the whole answer never does."""
    monkeypatch.setattr(outbound, "CALL_WITHIN_S", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\n")
                try:
                    while not over.wait(0.02):
                        peer.sendall(b"a")
                except OSError:
                    return

        talker = threading.Thread(target=drip)
        talker.start()
        try:
            port = server.getsockname()[1]
            assert isinstance(post(f"http://127.0.0.1:{port}/", b"", {}, private_allowed=True), Unreached)
        finally:
            over.set()
            talker.join()


def test_a_name_without_an_address_and_a_closed_port_are_told() -> None:
    unknown = post("https://no-such-host.invalid/", b"", {}, private_allowed=True)
    assert isinstance(unknown, Unreached)
    assert unknown.reason.startswith("no-such-host.invalid has no address")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert isinstance(post(f"http://127.0.0.1:{port}/", b"", {}, private_allowed=True), Unreached)

"""How is an address of a stranger's choice called without reaching what only this machine may reach?

The name is resolved once, every address that it gives is looked at, and the connection goes to the one that was looked
at: what the name says a moment later (rebinding) plays no part. Redirects are not followed, the whole call has a time
limit, and of the answer only the beginning is read.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from qosqueue.errors import InvalidField

CALL_WITHIN_S = 15.0
CONNECT_WITHIN_S = 5.0
READ_BYTES = 500
LONGEST_URL = 2048
_HOST = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?|[0-9A-Fa-f:.%]+")
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
# For the API's document: a URL whose host is a name of several labels. A public address, written as one, is taken too.
_NAME = r"([A-Za-z0-9][A-Za-z0-9_-]{0,62}\.)+[A-Za-z][A-Za-z0-9-]{0,62}"
PUBLIC_URL = f"^https://{_NAME}(:{_PORT})?" + r'([/?][!-"$-\[\]-~]*)?$'
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Answered:
    """An answer came: its status and the beginning of its text."""

    status: int
    text: str


@dataclass(frozen=True)
class Unreached:
    """No answer came."""

    reason: str


class Refused(Exception):
    """The URL leads where nothing may be sent."""


def checked_url(value: object, *, private_allowed: bool) -> str:
    """The URL itself if it may be called, as far as can be told without asking anybody. Raises InvalidField."""
    expected = "an https:// URL of a public host" if not private_allowed else "an http:// or https:// URL"
    if not isinstance(value, str) or len(value) > LONGEST_URL:
        raise InvalidField("url", f"{expected}, at most {LONGEST_URL} characters", value)
    try:
        parts = _parts(value, private_allowed=private_allowed)
        if not private_allowed:
            _refuse_private(_numeric(parts.hostname or ""))
    except Refused as why:
        raise InvalidField("url", f"{expected}: {why}", value) from why
    return value


def post(url: str, body: bytes, headers: dict[str, str], *, private_allowed: bool) -> Answered | Unreached:
    """Send a POST, once; raises Refused for an address that nothing may be sent to."""
    parts = _parts(url, private_allowed=private_allowed)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Unreached(f"{host} has no address: {error.strerror or error}")
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    if not private_allowed:
        _refuse_private(addresses)
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    try:
        with _connect(str(addresses[0]), port, host if secure else None) as (sock, cut):
            answer = _exchange(sock, host, port, secure, target, body, headers)
            return Unreached(f"no whole answer within {CALL_WITHIN_S:g} s") if cut.is_set() else answer
    except (OSError, http.client.HTTPException) as error:
        return Unreached(f"{type(error).__name__}: {error}"[:200])


@contextmanager
def _connect(address: str, port: int, tls_host: str | None) -> Iterator[tuple[socket.socket, threading.Event]]:
    """A connection that is cut when the time of the call is over, and whether it was.

    A time limit for each read alone would let a slow talker hold this thread for ever.
    """
    sock = socket.create_connection((address, port), CONNECT_WITHIN_S)
    try:
        if tls_host is not None:
            sock = ssl.create_default_context().wrap_socket(
                sock, server_hostname=tls_host, do_handshake_on_connect=False
            )
        sock.settimeout(CALL_WITHIN_S)
        # The method of the plain socket: that of TLS changes what another thread reads from.
        cut = threading.Event()
        ends = threading.Timer(CALL_WITHIN_S, _shut, [sock, cut])
        ends.daemon = True
        ends.start()
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            yield sock, cut
        finally:
            ends.cancel()
    finally:
        sock.close()


def _exchange(
    sock: socket.socket, host: str, port: int, secure: bool, target: str, body: bytes, headers: dict[str, str]
) -> Answered:
    connection = http.client.HTTPConnection(host, port)
    # What decides whether the port is told in the Host header.
    connection.default_port = 443 if secure else 80
    connection.sock = sock
    connection.request("POST", target, body, headers)
    answer = connection.getresponse()
    try:
        return Answered(answer.status, answer.read(READ_BYTES).decode("utf-8", "replace").replace("\x00", ""))
    finally:
        answer.close()


def _shut(sock: socket.socket, cut: threading.Event) -> None:
    cut.set()
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def _parts(url: str, *, private_allowed: bool) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Refused("only ASCII without blanks; a host of other letters is written as xn--…")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(str(error)) from error
    if parts.scheme not in (("https", "http") if private_allowed else ("https",)):
        raise Refused(f"scheme {parts.scheme or 'none'!r}")
    if not parts.hostname or port == 0:
        raise Refused("no host")
    # The resolver's encoder of names raises something of its own for what is none.
    if not _HOST.fullmatch(parts.hostname):
        raise Refused("a host that is neither a name nor an address")
    if parts.username is not None or parts.password is not None:
        raise Refused("a name or password in it")
    if parts.fragment:
        raise Refused("a fragment")
    return parts


def _numeric(host: str) -> list[Address]:
    """The address that a host is if it is one, in any notation that a resolver takes (127.1, 0x7f000001, …)."""
    if host.rstrip(".").rpartition(".")[2] in ("localhost", "local", "internal"):
        raise Refused(f"{host} is a name of private networks")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


def _refuse_private(addresses: list[Address]) -> None:
    for address in addresses:
        if not is_public(address):
            raise Refused(f"{address} is not a public address")


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet, and so are those that it has inside (IPv4 in IPv6)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
        if address in _NAT64 or int(address) >> 32 == 0:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)

"""Is the client still there?

gunicorn's threads notice a vanished client only when they write, and an answer that is not streamed writes nothing
until it is whole. Looking at the socket frees the slot of such a client at once.
"""

from __future__ import annotations

import select
import socket
import ssl
from typing import Any


def client_gone(environ: dict[str, Any]) -> bool:
    """Whether the peer closed its side. False where the server does not show its socket (only gunicorn does).

    A client that shuts its sending side down and goes on reading counts as gone; no HTTP client does that.
    """
    peer = environ.get("gunicorn.socket")
    if not isinstance(peer, socket.socket) or isinstance(peer, ssl.SSLSocket):
        return False
    try:
        poll = select.poll()
        poll.register(peer, select.POLLIN)
        # A socket with a time-out would wait in recv for it, whatever the flags say: ask first.
        return bool(poll.poll(0)) and peer.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True

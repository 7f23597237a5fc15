"""Which gunicorn worker serves the web process? gunicorn's threads, with the next request taken by the thread at hand.

gthread gives a kept-alive connection back to its main thread after each answer, which waits for the next request and
hands it to a thread again: a fifth of what a short request costs. A thread that stays with its connection for a moment
saves both ways (docs/adr/0008). Use: `gunicorn --worker-class qosqueue_web.server.Worker`.
"""

from __future__ import annotations

import contextlib
import gc
import select
import sys
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

STAY_MS = 200
# A thread whose answer has come from the broker waits no longer than this for one that computes (the record is written
# in batches); Python's own 5 ms are as long as a whole request.
SWITCH_S = 0.0005


class Worker(ThreadWorker):
    """gunicorn's gthread. While fewer connections are open than half its threads, none of which can then be missed,
    a thread waits STAY_MS for the next request of the client that it has just answered."""

    def load_wsgi(self) -> None:
        """gunicorn's `load_wsgi`; what it made lives as long as the process, so no garbage collection looks at it.

        Looking at it took a tenth of a second each time, with every thread standing still.
        """
        sys.setswitchinterval(SWITCH_S)
        super().load_wsgi()
        gc.collect()
        gc.freeze()

    def handle(self, conn: Any) -> Any:
        """gunicorn's `handle`, again for each request that follows at once; its result for the last one."""
        kept = super().handle(conn)
        while kept is True and not conn.is_http2 and self._may_stay() and _readable(conn.sock):
            kept = super().handle(conn)
        return kept

    def handle_request(self, req: Any, conn: Any) -> Any:
        """gunicorn's `handle_request`; the head of the answer goes out with what comes first of its body."""
        sock = conn.sock
        conn.sock = held = HeadHeld(sock)
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock = sock
            held.flush()

    def _may_stay(self) -> bool:
        return bool(self.alive and self.nr_conns <= self.cfg.threads // 2)


class HeadHeld:
    """A socket that keeps what is written first, the head of an answer, until more is written or `flush`.

    gunicorn writes the head by itself; the client would wake up for it and take the processor while its first token is
    on the way.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._head = b""
        self._is_first = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Write, but for the first piece, which goes with the next."""
        if self._is_first:
            self._is_first, self._head = False, data
            return
        head, self._head = self._head, b""
        self._sock.sendall(head + data if head else data)

    def sendfile(self, *args: Any, **named: Any) -> Any:
        """The kernel writes the body: the head goes before."""
        self.flush()
        return self._sock.sendfile(*args, **named)

    def flush(self) -> None:
        """Write what is kept: the answer had no body. A client that is gone misses nothing."""
        head, self._head = self._head, b""
        if head:
            with contextlib.suppress(OSError):
                self._sock.sendall(head)


def _readable(sock: Any) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(STAY_MS))

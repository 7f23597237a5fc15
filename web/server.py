"""Which gunicorn worker serves the web process? gunicorn's threads, with the next request taken by the thread at hand.

gthread gives a kept-alive connection back to its main thread after each answer, which waits for the next request and
hands it to a thread again: a fifth of what a short request costs. A thread that stays with its connection for a moment
saves both ways (docs/adr/0008). Use: `gunicorn --worker-class qosqueue_web.server.Worker`.
"""

from __future__ import annotations

import gc
import select
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

STAY_MS = 200


class Worker(ThreadWorker):
    """gunicorn's gthread. While fewer connections are open than half its threads, none of which can then be missed,
    a thread waits STAY_MS for the next request of the client that it has just answered."""

    def load_wsgi(self) -> None:
        """gunicorn's `load_wsgi`; what it made lives as long as the process, so no garbage collection looks at it.

        Looking at it took a tenth of a second each time, with every thread standing still.
        """
        super().load_wsgi()
        gc.collect()
        gc.freeze()

    def handle(self, conn: Any) -> Any:
        """gunicorn's `handle`, again for each request that follows at once; its result for the last one."""
        kept = super().handle(conn)
        while kept is True and not conn.is_http2 and self._may_stay() and _readable(conn.sock):
            kept = super().handle(conn)
        return kept

    def _may_stay(self) -> bool:
        return bool(self.alive and self.nr_conns <= self.cfg.threads // 2)


def _readable(sock: Any) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(STAY_MS))

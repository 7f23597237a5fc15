"""Celery on the transport of celery-redis-plus (a sorted set for each queue, BZMPOP); it needs Python 3.13."""

from __future__ import annotations

import sys

from kombu.transport import TRANSPORT_ALIASES

from scripts.bench.rivals.celery_queue import CeleryQueue, socket_url
from scripts.bench.rivals.program import run

ALIAS = "plus"
TRANSPORT = "celery_redis_plus.transport:Transport"

if __name__ == "__main__":
    # Kombu takes the transport of a URL with a plus from its scheme; a dotted path cannot stand there.
    TRANSPORT_ALIASES[ALIAS] = TRANSPORT
    sys.exit(run(CeleryQueue(broker_url=socket_url(f"{ALIAS}+socket"), broker_transport=TRANSPORT)))

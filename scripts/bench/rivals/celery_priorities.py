"""Stock Celery with ten priorities on Kombu's Redis transport: a list for each step ("Redis message priorities")."""

from __future__ import annotations

import sys

from scripts.bench.rivals.celery_queue import PRIORITIES, CeleryQueue, socket_url
from scripts.bench.rivals.program import run

if __name__ == "__main__":
    steps = {"priority_steps": list(range(PRIORITIES)), "sep": ":", "queue_order_strategy": "priority"}
    sys.exit(run(CeleryQueue(broker_url=socket_url("redis+socket"), broker_transport_options=steps)))

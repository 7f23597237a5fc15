"""qosqueue's own rule on its real scripts, in a real server, at simulated times.

One embedded server is started for the program when the first rule is made, and ends with the program. Rules that are
there at the same time, as one for each replica, have groups of their own in it.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from itertools import count
from typing import Any, Literal
from weakref import WeakSet

import redis

from qosqueue.broker.address import connect
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.order import PoolTerms
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.message import Delivery, Nothing, Place
from scripts.bench.policies.interface import Pool
from scripts.bench.policies.qosqueue import QosqueuePolicy
from scripts.bench.servers import home_with_broker

_numbers = count()
_living: WeakSet[QosqueuePolicy] = WeakSet()


class ScriptsAt:
    """The scripts with the reference's arguments: the time comes first."""

    def __init__(self, client: redis.Redis, group: str) -> None:
        self._scripts = Scripts(client, group)

    def submit(self, now: int, **message: Any) -> int:
        """As the reference's."""
        return self._scripts.submit(**message, now_ms=now)

    def dispatch(self, now: int, *, lease_ms: int, holder: str, places: Sequence[Place]) -> Delivery | Nothing:
        """As the reference's."""
        return self._scripts.dispatch(lease_ms=lease_ms, holder=holder, places=places, now_ms=now)

    def settle(self, now: int, *, tag: str, fence: int, outcome: Literal["done"]) -> int:
        """As the reference's."""
        return self._scripts.settle(tag=tag, fence=fence, outcome=outcome, now_ms=now)

    def share(self, organisation: str, share: Share) -> None:
        """As the reference's."""
        self._scripts.share(organisation, share)

    def pool(self, model: str, terms: PoolTerms) -> None:
        """As the reference's."""
        self._scripts.pool(model, terms)

    def mean_service_ms(self, model: str) -> int:
        """As the reference's."""
        return self._scripts.mean_service_ms(model)


def on_redis(pool: Pool) -> QosqueuePolicy:
    """The rule over a pool, with an empty queue in the program's server."""
    client = _server()
    if not _living:
        # What rules that are gone have left.
        client.flushdb()
    rule = QosqueuePolicy(pool, ScriptsAt(client, f"simulated-{next(_numbers)}"))
    _living.add(rule)
    return rule


@cache
def _server() -> redis.Redis:
    running = ExitStack()
    settings = running.enter_context(home_with_broker())
    atexit.register(running.close)
    # On a busy machine the server may not be given the processor for seconds; nobody waits for these times.
    return connect(settings, socket_timeout_s=None)

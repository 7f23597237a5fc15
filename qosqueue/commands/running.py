"""On what does a command of a running system work? On all services, over the broker and the record of the home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.settings import load_settings
from qosqueue.store.schema import is_current
from qosqueue.wiring import Services, build


@contextmanager
def open_running() -> Iterator[Services]:
    """The services for the settings of the shell; raises QosqueueError with one line, also for Redis errors inside."""
    settings = load_settings()
    if not is_current(settings.sql_url()):
        raise StoreUnavailable("no database of this version: `qosqueue up` makes it (QOSQUEUE_HOME names the folder)")
    services = build(settings)
    try:
        yield services
    except redis.RedisError as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}; is `qosqueue up` running?") from error
    finally:
        services.redis.close()
        services.store.close()

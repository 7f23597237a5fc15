"""On what does a command of a running system work? On all services, over the broker and the record of the home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from qosqueue.commands.context import USAGE, failure, require_current
from qosqueue.errors import BrokerUnavailable, InvalidField
from qosqueue.settings import load_settings
from qosqueue.wiring import Services, build


@contextmanager
def open_running() -> Iterator[Services]:
    """The services for the settings of the shell; raises QosqueueError with one line, also for Redis errors inside.

    A value out of range inside ends the command with exit code 2.
    """
    settings = load_settings()
    require_current(settings.sql_url())
    services = build(settings)
    try:
        yield services
    except InvalidField as error:
        raise failure(str(error), USAGE) from error
    except redis.RedisError as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}; is `qosqueue up` running?") from error
    finally:
        services.redis.close()
        services.store.close()


def tenant_names(services: Services) -> dict[str, str]:
    """The names by which people know tenants, by id."""
    return {tenant.id: tenant.name for tenant in services.accounts.list_tenants()}

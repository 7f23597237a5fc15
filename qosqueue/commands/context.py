"""On what does a command of the record work? On the database of the settings, which must be there and current."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import typer

from qosqueue.broker.address import connect, socket_path
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, InvalidField, InvalidPolicy, QosqueueError, StoreUnavailable
from qosqueue.service.accounts import Accounts
from qosqueue.service.agreements import Agreements
from qosqueue.service.audit import Audit
from qosqueue.service.catalog import Catalog
from qosqueue.service.home_keys import webhook_key
from qosqueue.service.policies import Policies
from qosqueue.service.shares import Shares
from qosqueue.service.user_tokens import UserTokens
from qosqueue.service.users import Users
from qosqueue.service.webhooks import Webhooks
from qosqueue.settings import Settings, load_settings
from qosqueue.store.records import Tenant
from qosqueue.store.schema import is_current, sqlite_file
from qosqueue.store.session import Store, open_store

FAILED = 1
USAGE = 2


@dataclass(frozen=True)
class RecordServices:
    """The services that need nothing but the record."""

    store: Store
    accounts: Accounts
    catalog: Catalog
    users: Users
    user_tokens: UserTokens
    audit: Audit
    agreements: Agreements
    policies: Policies
    webhooks: Webhooks


@contextmanager
def open_services(*, raise_invalid: bool = False) -> Iterator[RecordServices]:
    """The services on the database of the settings (`QOSQUEUE_HOME`, `QOSQUEUE_DATABASE_URL`); makes nothing.

    An error of qosqueue inside the block, or a database that is missing, locked or not migrated, becomes one
    line on stderr and the end of the command: exit code 2 for a value out of range, 1 for all else. With
    `raise_invalid` a policy that cannot hold is left to the caller.
    """
    try:
        settings = load_settings()
        url = settings.sql_url()
        require_current(url)
        store = open_store(url)
        try:
            tell = partial(_tell, settings, store)
            yield RecordServices(
                store,
                Accounts(store, tell=tell),
                Catalog(store),
                Users(store),
                UserTokens(store),
                Audit(store),
                Agreements(store),
                Policies(store, tell=tell),
                Webhooks(store, partial(webhook_key, settings.home), private_allowed=settings.webhook_private_networks),
            )
        finally:
            store.close()
    except InvalidPolicy as error:
        if raise_invalid:
            raise
        raise failure(str(error.faults[0]), USAGE) from error
    except InvalidField as error:
        raise failure(str(error), USAGE) from error
    except QosqueueError as error:
        raise failure(str(error), FAILED) from error


def _tell(settings: Settings, store: Store, tenant: Tenant | None = None) -> None:
    """Let the order hear of a tenant's change (None: any's) at once; if its broker is away, the person hears of it."""
    if settings.redis_url is None and not socket_path(settings).exists():
        return  # nothing is up that could be late: the watchdog looks at the record when it starts
    with connect(settings) as client:
        try:
            Shares(Scripts(client, settings.group), store).refresh(tenant)
        except (BrokerUnavailable, StoreUnavailable) as error:
            print(f"qosqueue: recorded, and counts from the watchdog's next sweep on: {error}", file=sys.stderr)


def actor() -> str:
    """Who makes the change, as the audit trail names people at a terminal."""
    return f"cli:{getpass.getuser()}"


def failure(message: str, code: int) -> typer.Exit:
    """The end of a command that failed, after one line on stderr; raise it."""
    print(f"qosqueue: {message}", file=sys.stderr)
    return typer.Exit(code)


def require_current(url: str) -> None:
    """Raise StoreUnavailable, with what to do, unless the database is there and has this version's tables."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise StoreUnavailable(f"no database at {file}: `qosqueue up` makes it (QOSQUEUE_HOME names the folder)")
    if not is_current(url):
        raise StoreUnavailable("the database has not the tables of this version: `qosqueue up` migrates it")

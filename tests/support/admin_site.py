"""What do the tests of the admin pages visit? The real pages, accounts and users on a fresh SQLite file.

Fixture `site` (import `site_fixture` to have it): the queues and jobs shown are what the test puts into
`site.queues` and `site.jobs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from qosqueue.broker.replicas import Replicas
from qosqueue.broker.scripts import Scripts
from qosqueue.service.accounts import Accounts
from qosqueue.service.agreements import Agreements
from qosqueue.service.breakers import Breakers
from qosqueue.service.catalog import Catalog
from qosqueue.service.limits import Limits
from qosqueue.service.policies import Policies
from qosqueue.service.purges import Purges
from qosqueue.service.shares import Shares
from qosqueue.service.users import Users
from qosqueue.settings import Settings
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job, Role
from qosqueue.store.session import Store, open_store
from qosqueue.store.tables import AuditRow
from qosqueue_web import admin, security
from tests.support.fake_queues import FakeQueues
from tests.support.tables import make_tables

PASSWORD = "correct horse battery"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass
class FakeJobs:
    """The jobs of the test, whoever asks."""

    found: list[Job] = field(default_factory=list)

    def list(self, tenant_id: str, limit: int, before: str | None = None) -> list[Job]:
        """The first `limit` of them."""
        return self.found[:limit]


@dataclass
class Site:
    """The pages and what stands behind them."""

    app: Flask
    store: Store
    accounts: Accounts
    users: Users
    queues: FakeQueues
    jobs: FakeJobs
    services: Any
    roles_made: set[Role] = field(default_factory=set)

    def visitor(self, role: Role | None) -> FlaskClient:
        """A browser: logged in as a user of that role, or a stranger's."""
        client = self.app.test_client()
        if role is not None:
            self.add_user(role)
            answer = log_in(client, f"the-{role}", PASSWORD)
            assert answer.status_code == 302, answer.text
        return client

    def add_user(self, role: Role) -> None:
        """Make the user `the-<role>` unless he is there."""
        if role not in self.roles_made:
            self.roles_made.add(role)
            self.users.create_user(f"the-{role}", PASSWORD, role, "system:test")

    def audit(self, action: str) -> list[AuditRow]:
        """Audit rows of one action, oldest first."""
        with self.store.session() as sql:
            return list(sql.scalars(select(AuditRow).where(AuditRow.action == action).order_by(AuditRow.id)))


def make_site(settings: Settings, client: redis.Redis, **config: object) -> Site:
    """Mount the pages; `config` goes into the app's."""
    make_tables(settings.sql_url())
    store = open_store(settings.sql_url())
    accounts, queues, jobs = Accounts(store), FakeQueues(), FakeJobs()
    app = Flask("qosqueue_web")
    app.secret_key = b"of a test"
    app.config.update(config)
    security.guard_pages(app)
    # A hash is dear by design, and each test of the pages begins with a login.
    users = Users(store, PasswordHasher.from_parameters(CHEAPEST))
    scripts, catalog = Scripts(client, settings.group), Catalog(store)
    services = SimpleNamespace(
        settings=settings,
        store=store,
        redis=client,
        scripts=scripts,
        accounts=accounts,
        users=users,
        queues=queues,
        jobs=jobs,
        catalog=catalog,
        agreements=Agreements(store),
        policies=Policies(store),
        limits=Limits(scripts, store, Shares(scripts, store)),
        breakers=Breakers(scripts, store, catalog, Replicas(client, settings.group)),
        purges=Purges(scripts, JobRecord(store), store),
    )
    admin.register(app, cast(Any, services))
    return Site(app, store, accounts, users, queues, jobs, services)


@pytest.fixture(name="site")
def site_fixture(settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
    """The pages over a fresh database and an empty broker."""
    made = make_site(settings, redis_client)
    yield made
    made.store.close()


def token_of(html: str) -> str:
    """The CSRF token of the page's first form."""
    found = TOKEN.search(html)
    assert found is not None, html
    return found[1]


def post(client: FlaskClient, path: str, page: str = "/admin/queues", **sent: str) -> TestResponse:
    """Send a form as a browser does: with the token of `page` (a stranger's: of the login page)."""
    html = client.get(page, follow_redirects=True).text
    return client.post(path, data={"csrf_token": token_of(html), **sent})


def log_in(client: FlaskClient, name: str, password: str, **sent: str) -> TestResponse:
    """Try to log in."""
    return post(client, "/admin/login", "/admin/login", name=name, password=password, **sent)

"""Whom do the tests of the admin API ask? The real services, on a broker and SQL, as users of each role.

Fixtures `services`, `client` and `admin` (import them by their names with `_fixture`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from qosqueue.settings import Settings
from qosqueue.store.records import Role
from qosqueue.wiring import Services, build
from tests.support.tables import make_tables

MODEL = "tiny"
BASE = "/v1/admin"
PASSWORD = "correct horse battery"


@pytest.fixture(name="services")
def services_fixture(settings: Settings) -> Iterator[Services]:
    make_tables(settings.sql_url())
    made = build(settings)
    made.catalog.add_model(MODEL, "simulated", actor="test", memory_bytes=1000, context_tokens=512, slots=4)
    yield made
    made.close()


@pytest.fixture(name="client")
def client_fixture(services: Services) -> FlaskClient:
    from qosqueue_web.app import create_app

    return create_app(services).test_client()


def token_of(services: Services, role: Role) -> dict[str, str]:
    services.users.create_user(f"the-{role}", PASSWORD, role, "test")
    return bearer(services.user_tokens.create(f"the-{role}", actor="test").token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(name="admin")
def admin_fixture(services: Services) -> dict[str, str]:
    return token_of(services, Role.ADMIN)


def problem_of(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    told: dict[str, Any] = answer.get_json()
    assert (told["status"], told["code"]) == (status, code)
    assert told["title"]
    assert told["detail"]
    assert told["request_id"] == answer.headers["x-request-id"]
    return told

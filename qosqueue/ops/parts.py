"""Which processes is a running qosqueue made of, and how is each started?"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict

from qosqueue.broker import embedded
from qosqueue.ops.child import describe_end, ends_with_parent, spawn
from qosqueue.ops.supervise import WEB_CUTS_AFTER_S, WORKER_GRACE_S, Part, StartFailed
from qosqueue.settings import PREFIX, Settings
from qosqueue.store.records import Model

CHECK_WITHIN_S = 60.0
WEB_GRACE_S = 30.0
WORKER_CLASS = "qosqueue_web.server.Worker"
LISTEN_BACKLOG = 1024
# Any other fault of listening is one of the address.
PORT_FAULTS = frozenset({errno.EADDRINUSE, errno.EACCES})
# Exit code of the workers' check for a model that no engine takes.
UNSOUND = 2


def listen(settings: Settings) -> socket.socket:
    """The web server's socket, bound and listening; port 0 takes a free one. Raises StartFailed in one line.

    The supervisor keeps it, so the port stays ours while the web server is started again: callers wait, none is
    refused.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address, family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        fix = (
            "set --port or QOSQUEUE_PORT to a free one"
            if error.errno in PORT_FAULTS
            else "correct --host or QOSQUEUE_HOST"
        )
        raise StartFailed(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; fix: {fix}"
        ) from error


def broker_part(settings: Settings) -> Part:
    """The embedded broker; it is ready once `embedded.wait_ready` says so."""
    return Part(
        "broker",
        lambda: embedded.spawn(settings, before_exec=ends_with_parent()),
        settings.home / "logs" / "broker.log",
    )


def worker_part(settings: Settings) -> Part:
    """The Celery worker with its replicas."""
    return _python_part("worker", ["-m", "qosqueue_workers"], settings, WORKER_GRACE_S)


def beat_part(settings: Settings) -> Part:
    """Celery beat: starts the watchdog's sweeps."""
    return _python_part("beat", ["-m", "qosqueue_workers.beat"], settings)


def bulk_part(settings: Settings) -> Part:
    """Feeds batches and sends webhooks."""
    return _python_part("bulk", ["-m", "qosqueue_workers.bulk"], settings)


def web_part(settings: Settings, listener: socket.socket) -> Part:
    """The web server on a socket that listens already. One process: its threads share one event follower."""
    log = settings.home / "logs" / "web.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "qosqueue_web.app:create_app()"),
        *("--worker-class", WORKER_CLASS, "--workers", "1", "--threads", str(settings.web_threads)),
        *("--bind", f"fd://{listener.fileno()}", "--graceful-timeout", str(WEB_CUTS_AFTER_S)),
        # Its default place is one file in the user's home: two instances would fight over it.
        "--no-control-socket",
    ]
    return Part(
        "web",
        lambda: spawn(command, env=child_environment(settings), log=log, keep_open=(listener.fileno(),)),
        log,
        WEB_GRACE_S,
    )


def check_models(settings: Settings) -> None:
    """Ask the workers' package whether every model of the catalog could be loaded; raises StartFailed in one line.

    The line is `model NAME: what is wrong; fix: what to do`.
    """
    code, words = _ask_workers(settings, ["--check"])
    if code:
        raise StartFailed(words)


def model_fault(settings: Settings, model: Model, *, files_too: bool = False) -> str | None:
    """Why no engine takes this model, or with `files_too` finds no files for it, in one line; None if all is well.

    The model need not be in the catalog; no database is asked. Raises StartFailed if the check cannot run.
    """
    code, words = _ask_workers(
        settings, ["--check-model", *(["--check"] if files_too else [])], json.dumps(asdict(model))
    )
    if code not in (0, UNSOUND):
        raise StartFailed(words)
    return words if code else None


def _ask_workers(settings: Settings, arguments: list[str], stdin: str = "") -> tuple[int, str]:
    """Exit code and last line of the workers' package run with these arguments."""
    try:
        told = subprocess.run(
            [sys.executable, "-m", "qosqueue_workers", *arguments],
            env=child_environment(settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=CHECK_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartFailed(f"the check of the models took longer than {CHECK_WITHIN_S:g} s") from error
    lines = [line.strip() for line in (told.stdout + told.stderr).splitlines() if line.strip()]
    last = lines[-1] if lines else f"the check of the models ended with {describe_end(told.returncode)}"
    return told.returncode, last.removeprefix("qosqueue: ")


def child_environment(settings: Settings) -> Mapping[str, str]:
    """This process's environment, with the state folder, host and port as they really are."""
    return {
        **os.environ,
        f"{PREFIX}HOME": str(settings.home),
        f"{PREFIX}HOST": settings.host,
        f"{PREFIX}PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
    }


def _python_part(name: str, arguments: list[str], settings: Settings, grace_s: float = 10.0) -> Part:
    log = settings.home / "logs" / f"{name}.log"

    def start() -> subprocess.Popen[bytes]:
        return spawn(
            [sys.executable, *arguments],
            env=child_environment(settings),
            log=log,
            # The broker goes down with the supervisor, and a Celery process waits for it when it is asked to end.
            # What runs is under a lease, so nothing is lost by a kill.
            when_orphaned=signal.SIGKILL,
        )

    return Part(name, start, log, grace_s)

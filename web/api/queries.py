"""What may stand in a path or a query of the API? An unknown name in a query is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_WAIT_S = 60
MAX_PAGE = 100


class JobPath(BaseModel):
    """Which job."""

    id: str


class ModelPath(BaseModel):
    """Which model."""

    name: str


class PreferHeader(BaseModel):
    """What a client that waits would rather have than a refusal."""

    prefer: str | None = Field(
        default=None,
        alias="Prefer",
        description=(
            "`respond-async`: where the tenant's policy defers what cannot be answered now, the answer is 202 with a "
            "job to poll at `Location` in place of a refusal"
        ),
    )


class JobQuery(BaseModel):
    """How long to wait for the job's end, in seconds; `Prefer: wait=N` says the same."""

    model_config = ConfigDict(extra="forbid")
    wait: float | None = Field(default=None, ge=0, le=MAX_WAIT_S, allow_inf_nan=False)


class JobsQuery(BaseModel):
    """Which page of the jobs, newest first: those made before the job with the id `before`."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    before: str | None = Field(default=None, pattern=r"^job_[0-9a-f]{24}$")


class FilePath(BaseModel):
    """Which file."""

    file_id: str


class FilesQuery(BaseModel):
    """Which page of the files: those behind the file with the id `after`."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=10_000)
    after: str | None = Field(default=None, pattern=r"^file_[0-9a-f]{24}$")
    order: Literal["asc", "desc"] = "desc"
    purpose: Literal["batch", "batch_output"] | None = None


class BatchPath(BaseModel):
    """Which batch."""

    batch_id: str


class BatchesQuery(BaseModel):
    """Which page of the batches, newest first: those behind the batch with the id `after`."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    after: str | None = Field(default=None, pattern=r"^batch_[0-9a-f]{24}$")


class WebhookEndpointPath(BaseModel):
    """Which webhook endpoint."""

    webhook_endpoint_id: str

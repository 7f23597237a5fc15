"""What does the API answer about files, batches and webhooks? The shapes are those of OpenAI's client."""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel

from qosqueue.service.webhooks import WebhookEndpoint
from qosqueue.store.batch_record import Batch
from qosqueue.store.file_record import StoredFile


class _Named(BaseModel):
    id: str


T = TypeVar("T", bound=_Named)


class _Page(BaseModel, Generic[T]):
    """A page; `last_id` is the `after` of the next one."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: list[T], *, has_more: bool) -> Self:
        """These, as a page."""
        return cls(
            data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=has_more
        )


class FileAnswer(_Named):
    """A file; `bytes` is its size, `*_at` are seconds since the epoch."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(_Page[FileAnswer]):
    """A page of files."""


class DeletedFile(_Named):
    """A file that is gone."""

    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class RequestCounts(BaseModel):
    """How many requests a batch has, and how many have ended in which file."""

    total: int
    completed: int
    failed: int


class BatchAnswer(_Named):
    """A batch. Every `*_at` is seconds since the epoch; null: not so far."""

    object: Literal["batch"] = "batch"
    endpoint: str
    errors: dict[str, Any] | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(_Page[BatchAnswer]):
    """A page of batches, newest first."""


class WebhookEndpointAnswer(_Named):
    """Where events are sent. `disabled_reason` is null while they are."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str
    enabled: bool
    disabled_reason: str | None


class WebhookEndpointWithSecret(WebhookEndpointAnswer):
    """An endpoint just made, or given another secret: the only time that it is told."""

    signing_secret: str


class WebhookEndpointList(_Page[WebhookEndpointAnswer]):
    """All endpoints of a tenant."""


class DeletedWebhookEndpoint(_Named):
    """An endpoint that is gone."""

    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


def file_answer(file: StoredFile) -> FileAnswer:
    """The file as its tenant may see it."""
    return FileAnswer(
        id=file.id,
        bytes=file.bytes,
        created_at=file.created_ms // 1000,
        expires_at=file.expires_ms // 1000,
        filename=file.filename,
        purpose=file.purpose,
    )


def batch_answer(batch: Batch) -> BatchAnswer:
    """The batch as its tenant may see it."""
    stamps = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    return BatchAnswer(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=batch.errors,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=batch.created_ms // 1000,
        expires_at=batch.expires_ms // 1000,
        request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        metadata=None if batch.details is None else batch.details["metadata"],
        **{f"{name}_at": _seconds(getattr(batch, f"{name}_ms")) for name in stamps},
    )


def webhook_answer(endpoint: WebhookEndpoint, secret: str | None = None) -> WebhookEndpointAnswer:
    """The endpoint as its tenant may see it, with its secret if it is told now."""
    shown = {
        "id": endpoint.id,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "created_at": endpoint.created_ms // 1000,
        "updated_at": endpoint.updated_ms // 1000,
        "signing_secret_hint": endpoint.secret_hint,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
    }
    return (
        WebhookEndpointAnswer(**shown) if secret is None else WebhookEndpointWithSecret(**shown, signing_secret=secret)
    )


def _seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000

"""How do the outputs of a batch get into files? A page of lines at a time, and on record with the batch's end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pydantic_core import to_json
from sqlalchemy.orm import Session

from qosqueue.policy.batch import BatchEvent, BatchStatus, LineState
from qosqueue.service.files import Files, NewFile
from qosqueue.service.webhook_events import WebhookEvents
from qosqueue.store.batch_record import Batch, BatchRecord
from qosqueue.store.bulk_tables import FileRow
from qosqueue.store.clock import now_ms
from qosqueue.store.line_record import EndedLine, LineRecord

LINES_AT_ONCE = 200
UNFINISHED = {
    LineState.EXPIRED: {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    },
    LineState.CANCELLED: {"code": "batch_cancelled", "message": "This request was cancelled before it was executed."},
}


class BatchOutput:
    """Writes the output file and the error file of a batch, and ends it."""

    def __init__(self, files: Files, record: BatchRecord, lines: LineRecord, events: WebhookEvents) -> None:
        self._files = files
        self._record = record
        self._lines = lines
        self._events = events

    def end(self, batch: Batch, holder: str) -> None:
        """End a batch none of whose lines is open. Raises Superseded, StoreUnavailable."""
        with ExitStack() as stack:
            outputs = {name: stack.enter_context(self._files.new()) for name in ("output", "error")}
            expired = self._write(batch, outputs, lambda: self._go_on_holding(batch, holder))
            for file in outputs.values():
                if file.size:
                    file.place()
            with self._record.holding(batch.id, holder) as session:
                ids = {
                    f"{name}_file_id": self._put_on_record(session, batch, name, file) for name, file in outputs.items()
                }
                event, stamp = _end_of(batch, expired)
                if self._record.move(session, batch.id, event, **ids, **{f"{stamp}_ms": now_ms()}):
                    self._events.emit(session, batch.tenant_id, f"batch.{stamp}", batch.id)

    def _write(self, batch: Batch, outputs: dict[str, NewFile], go_on: Callable[[], None]) -> bool:
        """Whether a line was not finished within the window."""
        expired, after = False, 0
        while page := self._lines.ended(batch.id, after, LINES_AT_ONCE):
            for line in page:
                good = line.state is LineState.SUCCEEDED
                outputs["output" if good else "error"].write(to_json(output_line(batch.id, line)) + b"\n")
                expired = expired or line.state is LineState.EXPIRED
            after = page[-1].number
            go_on()
        return expired

    def _go_on_holding(self, batch: Batch, holder: str) -> None:
        with self._record.holding(batch.id, holder):
            """Only the hold is renewed."""

    def _put_on_record(self, session: Session, batch: Batch, name: str, file: NewFile) -> str | None:
        if not file.size:
            return None
        described = file.described(batch.tenant_id, "batch_output", f"{batch.id}_{name}.jsonl", batch.output_ttl_ms)
        session.add(FileRow(**vars(described)))
        return described.id


def output_line(batch_id: str, line: EndedLine) -> dict[str, Any]:
    """A line of the output file or the error file, as OpenAI writes them."""
    response, error = None, line.error or UNFINISHED.get(line.state)
    if line.state is LineState.SUCCEEDED:
        response = {"status_code": 200, "request_id": line.job_id, "body": line.result}
    elif line.state is LineState.FAILED and line.error is None:
        response = _failure(line)
    return {
        "id": f"batch_req_{batch_id.removeprefix('batch_')}_{line.number}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }


def _failure(line: EndedLine) -> dict[str, Any]:
    told = line.job_error or {}
    status = int(told.get("status") or 500)
    error = {
        "message": str(told.get("message") or "the request failed"),
        "type": "server_error" if status >= 500 else "invalid_request_error",
        "param": told.get("param"),
        "code": told.get("code"),
    }
    return {"status_code": status, "request_id": line.job_id, "body": {"error": error}}


def _end_of(batch: Batch, expired: bool) -> tuple[BatchEvent, str]:
    if batch.status is BatchStatus.CANCELLING:
        return BatchEvent.STOPPED, "cancelled"
    if expired:
        return BatchEvent.ASSEMBLED_PARTLY, "expired"
    return BatchEvent.ASSEMBLED, "completed"

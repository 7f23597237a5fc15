"""How does a tenant hand in a batch, follow it, and take it back? What then happens is `batch_feed.py`'s."""

from __future__ import annotations

import re
from typing import Any

from qosqueue.errors import NotFound
from qosqueue.policy.batch import BatchStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.service.body_faults import invalid_value
from qosqueue.service.endpoints import ENDPOINTS
from qosqueue.store.batch_record import Batch, BatchRecord
from qosqueue.store.clock import now_ms
from qosqueue.store.ids import new_id

BATCH_ID = re.compile(r"batch_[0-9a-f]{24}")
WINDOW = re.compile(r"([1-9]|1[0-9]|2[0-4])h")
HOUR_MS = 3_600_000
MOST_OPEN = 100


class Batches:
    """A tenant's batches. All methods raise StoreUnavailable."""

    def __init__(self, record: BatchRecord) -> None:
        self._record = record

    def create(
        self,
        tenant_id: str,
        *,
        endpoint: str,
        completion_window: str,
        input_file_id: str,
        metadata: dict[str, str] | None = None,
        output_ttl_ms: int | None = None,
    ) -> Batch | Refusal:
        """Write down a batch; it is checked and fed from now on."""
        if endpoint not in ENDPOINTS:
            return invalid_value("endpoint", f"expected one of {', '.join(sorted(ENDPOINTS))}")
        window = WINDOW.fullmatch(completion_window)
        if window is None:
            return invalid_value("completion_window", "expected whole hours from 1h to 24h")
        at_ms = now_ms()
        batch = Batch(
            id=new_id("batch"),
            tenant_id=tenant_id,
            endpoint=endpoint,
            completion_window=completion_window,
            input_file_id=input_file_id,
            output_file_id=None,
            error_file_id=None,
            output_ttl_ms=output_ttl_ms,
            status=BatchStatus.VALIDATING,
            errors=None,
            details=_details(metadata),
            total=0,
            completed=0,
            failed=0,
            read_bytes=0,
            read_lines=0,
            created_ms=at_ms,
            expires_ms=at_ms + int(window[1]) * HOUR_MS,
        )
        why_not = self._record.insert(batch, most_open=MOST_OPEN)
        if why_not == "no file":
            told = "input_file_id: there is no such file with purpose batch"
            return Refusal(404, "file_not_found", told, "input_file_id")
        if why_not is not None:
            told = f"at most {MOST_OPEN} batches of a tenant may be open at once: wait for one to end"
            return Refusal(429, "rate_limit_exceeded", told, retry_after_s=60)
        return batch

    def get(self, tenant_id: str, batch_id: str) -> Batch:
        """A tenant's own batch; raises NotFound, the same for another tenant's as for none."""
        found = self._record.find(batch_id, tenant_id) if BATCH_ID.fullmatch(batch_id) else None
        if found is None:
            raise NotFound(f"No batch {batch_id!r}.")
        return found

    def list(self, tenant_id: str, limit: int, after: str | None = None) -> list[Batch]:
        """A page of a tenant's batches, newest first; `after` is the id of the last one seen (raises NotFound)."""
        return self._record.page(tenant_id, limit, None if after is None else self.get(tenant_id, after))

    def cancel(self, tenant_id: str, batch_id: str) -> Batch:
        """Stop what has not begun. A batch that has ended, or whose outputs are being written, stays as it is."""
        batch = self.get(tenant_id, batch_id)
        self._record.cancel(batch.id)
        return self.get(tenant_id, batch_id)


def _details(metadata: dict[str, str] | None) -> dict[str, Any] | None:
    return None if metadata is None else {"metadata": metadata}

"""How does a test get a job's row without a database? It takes one that waits, and says what is different."""

from __future__ import annotations

from typing import Any

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import TaskType
from qosqueue.store.records import Job

CREATED_MS = 1_700_000_000_000
WAITING: dict[str, Any] = {
    "id": f"job_{0:024x}",
    "model": "sim",
    "endpoint": "/v1/jobs",
    "task_type": TaskType.ASYNC,
    "status": JobStatus.QUEUED,
    "priority": 4,
    "routing_key": "standard.light",
    "latency_class": "low",
    "latency_budget_ms": 60_000,
    "cost_tokens": 10,
    "cost_ms": None,
    "body": {},
    "details": {},
    "result": None,
    "error": None,
    "attempts": 0,
    "fence": 0,
    "worker": None,
    "prompt_tokens": None,
    "completion_tokens": None,
    "gpu_ms": None,
    "created_ms": CREATED_MS,
    "expires_ms": CREATED_MS + 60_000,
    "queued_ms": None,
    "started_ms": None,
    "first_token_ms": None,
    "finished_ms": None,
}


def a_job(tenant_id: str, **changes: Any) -> Job:
    """A job of a tenant."""
    return Job(tenant_id=tenant_id, **(WAITING | changes))


def failed_job(tenant_id: str, index: int, text: str, model: str | None = None) -> Job:
    """A failed job with `text` wherever a stranger can choose one."""
    error = {"message": text, "code": "engine_error"}
    failed = {"status": JobStatus.FAILED, "error": error, "attempts": 1, "fence": 1}
    return a_job(tenant_id, id=f"job_{index:024x}", model=text if model is None else model, **failed)

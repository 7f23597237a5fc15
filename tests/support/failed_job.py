"""What does a page show of a job that failed?"""

from __future__ import annotations

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import TaskType
from qosqueue.store.records import Job


def failed_job(tenant_id: str, index: int, text: str, model: str | None = None) -> Job:
    """A failed job with `text` wherever a stranger can choose one."""
    return Job(
        id=f"job_{index:024x}",
        tenant_id=tenant_id,
        model=text if model is None else model,
        endpoint="/v1/jobs",
        task_type=TaskType.ASYNC,
        status=JobStatus.FAILED,
        priority=4,
        routing_key="standard.light",
        latency_class="low",
        latency_budget_ms=60_000,
        cost_tokens=10,
        body={},
        details={},
        result=None,
        error={"message": text, "code": "engine_error"},
        attempts=1,
        fence=1,
        worker=None,
        prompt_tokens=None,
        completion_tokens=None,
        created_ms=1_700_000_000_000,
        expires_ms=1_700_000_060_000,
        queued_ms=None,
        started_ms=None,
        first_token_ms=None,
        finished_ms=None,
    )

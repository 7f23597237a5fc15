"""What is told of a trouble on a request's way, and is the request taken as a job for it, if its client agrees?"""

from __future__ import annotations

from dataclasses import replace

from qosqueue.policy.quota import Kind
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.road import Trouble, steps, trouble_of
from qosqueue.policy.terms import RoadStep, TaskType
from qosqueue.service import decided
from qosqueue.service.admission import Plan
from qosqueue.service.answers import RESPONSES
from qosqueue.service.requests import JobRequest
from qosqueue.store.ids import new_id

WHY = {
    Trouble.MODEL: "its model was out of service",
    Trouble.TOKENS: "there was no room for so many tokens",
    Trouble.LATE: "it would have started too late",
    Trouble.FULL: "there was no room for it",
}
HAS_FAILED = "its model had failed it"


def trouble_in(refusal: Refusal) -> Trouble | None:
    """What stood in the way of a refused request; None: nothing on a road helps."""
    return trouble_of(refusal.code, of_tokens=refusal.lacks in (Kind.TOKENS, Kind.DAY_TOKENS))


def is_deferred(plan: Plan, trouble: Trouble | None) -> bool:
    """Whether the road has a request that somebody waits for, and that met that trouble, taken as a job."""
    waits = plan.profile.task_type is TaskType.ONLINE
    return waits and trouble is not None and RoadStep.DEFER in steps(plan.agreed.road, trouble)


def would_be_a_job(plan: Plan, message: str) -> str:
    """The message of a refusal, with how its client can have a job; whose client has agreed to one, and cannot get it
    any more (its stream has begun), can still submit one."""
    told = f"{message} It would be taken as a job: POST /v1/jobs"
    if plan.request.may_defer:
        return f"{told}."
    how = '`"background": true`' if plan.request.endpoint == RESPONSES else "the header `Prefer: respond-async`"
    return f"{told}, or the same request with {how}."


def deferred(request: JobRequest, refusal: Refusal, *, has_run: bool) -> JobRequest:
    """A synchronous request as the job that it becomes: its answer may begin later (it has a job's budget,
    and nobody asks at the door whether it would be late), and it waits for its model.

    One that was refused at the door keeps its id; one that `has_run` is on record under it, and gets another.
    """
    trouble = trouble_in(refusal)
    if trouble is None or not refusal.as_job:
        raise ValueError(f"refusal: one that a job may stand for expected, got {refusal.code}")
    job = replace(
        request,
        task_type=TaskType.ASYNC,
        latency_budget_ms=None,
        ttl_ms=None,
        stream=False,
        recorded_at_once=False,
        waits_for_model=True,
        may_be_late=True,
        detours=(*request.detours, "defer"),
        changed=(*request.changed, decided.degraded("a job", HAS_FAILED if has_run else WHY[trouble])),
    )
    return replace(job, id=new_id("job"), is_keyed=False) if has_run else job

"""How else may a request run that cannot go its way? As the road of its tenant's policy says, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from qosqueue.policy.quota import Kind
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.road import Trouble, shortened, steps, trouble_of
from qosqueue.policy.terms import RoadStep, TaskType
from qosqueue.service.admission import AS_A_JOB, Admission, Plan
from qosqueue.service.requests import Admitted, JobRequest
from qosqueue.store.records import Tenant

MOST_DETOURS = 4
OUTPUT_FIELDS = ("max_tokens", "max_completion_tokens")

Offer = Callable[[Plan], Admitted | Refusal]


class Detours:
    """Offers a request, and when it is refused what the road has in its place; the first refusal is the answer."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def go(self, tenant: Tenant, request: JobRequest, offer: Offer) -> tuple[Plan, Admitted] | Refusal:
        """The plan that was let in. Raises what `offer` raises."""
        plan = self._admission.plan(tenant, request)
        if isinstance(plan, Refusal):
            return plan
        went = self._try(tenant, plan, offer)
        if not isinstance(went, Refusal):
            return went
        trouble = trouble_of(went.code, of_tokens=_lacks_tokens(went))
        return self.around(tenant, plan, trouble, offer) or _told(plan, trouble, went)

    def around(self, tenant: Tenant, plan: Plan, trouble: Trouble | None, offer: Offer) -> tuple[Plan, Admitted] | None:
        """What is let in in place of a plan that met that trouble; None: nothing."""
        for other in self._others(tenant, plan, trouble):
            went = self._try(tenant, other, offer)
            if not isinstance(went, Refusal):
                return went
        return None

    def _try(self, tenant: Tenant, plan: Plan, offer: Offer) -> tuple[Plan, Admitted] | Refusal:
        ready = self._admission.in_time(tenant, plan)
        if isinstance(ready, Refusal):
            return ready
        admitted = offer(ready)
        return admitted if isinstance(admitted, Refusal) else (ready, admitted)

    def _others(self, tenant: Tenant, plan: Plan, trouble: Trouble | None) -> Iterator[Plan]:
        for step in () if trouble is None else steps(plan.agreed.road, trouble):
            for request in self._fallbacks(plan) if step is RoadStep.FALLBACK else _degraded(plan, step):
                other = self._admission.plan(tenant, request)
                if isinstance(other, Plan):
                    yield other

    def _fallbacks(self, plan: Plan) -> Iterator[JobRequest]:
        """The model's fallback, then that one's, each once."""
        request, model, seen = plan.request, plan.model, {plan.model.name}
        while model.fallback_model is not None and model.fallback_model not in seen and len(seen) <= MOST_DETOURS:
            seen.add(model.fallback_model)
            request = replace(
                request,
                model=model.fallback_model,
                body=request.body | {"model": model.fallback_model},
                detours=(*plan.request.detours, f"fallback;from={plan.model.name}"),
            )
            yield request
            other = self._admission.model(model.fallback_model)
            if other is None:
                return
            model = other


def _degraded(plan: Plan, step: RoadStep) -> Iterator[JobRequest]:
    shorter = shortened(plan.request.max_output_tokens) if step is RoadStep.DEGRADE else None
    if shorter is not None:
        limits: dict[str, Any] = {name: shorter for name in OUTPUT_FIELDS if name in plan.request.body}
        told = (*plan.request.detours, f"degrade;max_tokens={shorter}")
        body = plan.request.body | (limits or {"max_tokens": shorter})
        yield replace(plan.request, max_output_tokens=shorter, body=body, detours=told)


def _lacks_tokens(refusal: Refusal) -> bool:
    return refusal.lacks in (Kind.TOKENS, Kind.DAY_TOKENS)


def _told(plan: Plan, trouble: Trouble | None, refusal: Refusal) -> Refusal:
    """A synchronous request cannot be deferred, its client would not know the job: but it can be told."""
    if trouble is None or plan.profile.task_type is not TaskType.ONLINE:
        return refusal
    is_deferred = RoadStep.DEFER in steps(plan.agreed.road, trouble)
    return replace(refusal, message=f"{refusal.message}{AS_A_JOB}") if is_deferred else refusal

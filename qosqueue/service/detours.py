"""How else may a request run that cannot go its way? As the road of its tenant's policy says, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from qosqueue.policy.refusal import Refusal
from qosqueue.policy.road import Trouble, shortened, steps
from qosqueue.policy.terms import RoadStep, TaskType
from qosqueue.service import decided
from qosqueue.service.admission import Admission, Plan
from qosqueue.service.requests import Admitted, JobRequest
from qosqueue.service.troubles import HAS_FAILED, WHY, is_deferred, trouble_in, would_be_a_job
from qosqueue.store.records import Tenant

MOST_DETOURS = 4
OUTPUT_FIELDS = ("max_tokens", "max_completion_tokens")
FALLBACK = "fallback;from="
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
        trouble = trouble_in(went)
        around = None if trouble is None else self.around(tenant, plan, trouble, offer, WHY[trouble])
        return around or _told(plan, trouble, went)

    def around(
        self, tenant: Tenant, plan: Plan, trouble: Trouble, offer: Offer, why: str
    ) -> tuple[Plan, Admitted] | None:
        """What is let in in place of a plan that met that trouble, `why` for the record; None: nothing."""
        for other in self._others(tenant, plan, steps(plan.agreed.road, trouble), why):
            went = self._try(tenant, other, offer)
            if isinstance(went, Refusal) and other.model is not plan.model:
                # The other model may have room for a shorter answer.
                went = self._shorter(tenant, other, went, offer)
            if not isinstance(went, Refusal):
                return went
        return None

    def other_model(self, tenant: Tenant, plan: Plan) -> Plan | None:
        """How a request goes on that was let in and that its model has failed: on the first model of its road that is
        there and in service. Changes nothing."""
        for other in self._others(tenant, plan, steps(plan.agreed.road, Trouble.MODEL), HAS_FAILED):
            if self._admission.is_in_service(other.model.name):
                return other
        return None

    def go_on(self, tenant: Tenant, plan: Plan, other: Plan, offer: Offer) -> tuple[Plan, Admitted] | None:
        """What is let in in place of a plan that its model has failed: what has room on its road, else that other one,
        without regard to room. None: `offer` took none."""
        went = self.around(tenant, plan, Trouble.MODEL, offer, HAS_FAILED)
        if went is not None:
            return went
        admitted = offer(counted := other.counted_again)
        return None if isinstance(admitted, Refusal) else (counted, admitted)

    def _try(self, tenant: Tenant, plan: Plan, offer: Offer) -> tuple[Plan, Admitted] | Refusal:
        ready = self._admission.in_time(tenant, plan)
        if isinstance(ready, Refusal):
            return ready
        admitted = offer(ready)
        return admitted if isinstance(admitted, Refusal) else (ready, admitted)

    def _shorter(self, tenant: Tenant, plan: Plan, refusal: Refusal, offer: Offer) -> tuple[Plan, Admitted] | Refusal:
        trouble = trouble_in(refusal)
        if trouble is not None and RoadStep.DEGRADE in steps(plan.agreed.road, trouble):
            for other in self._others(tenant, plan, (RoadStep.DEGRADE,), WHY[trouble]):
                return self._try(tenant, other, offer)
        return refusal

    def _others(self, tenant: Tenant, plan: Plan, road: Sequence[RoadStep], why: str) -> Iterator[Plan]:
        for step in road:
            if step is RoadStep.DEFER and plan.request.may_defer:
                return  # its client takes a job for an answer, and the road has that before what follows
            for request in self._fallbacks(plan, why) if step is RoadStep.FALLBACK else _degraded(plan, step, why):
                other = self._admission.plan(tenant, request)
                if isinstance(other, Plan):
                    yield other

    def _fallbacks(self, plan: Plan, why: str) -> Iterator[JobRequest]:
        """The model's fallback, then that one's, each once, and none that the request has come from."""
        request, model, name = plan.request, plan.model, plan.model.name
        seen = {name, *(each.removeprefix(FALLBACK) for each in request.detours if each.startswith(FALLBACK))}
        for _ in range(MOST_DETOURS):
            if model.fallback_model is None or model.fallback_model in seen:
                return
            seen.add(model.fallback_model)
            yield replace(
                request,
                model=model.fallback_model,
                body=request.body | {"model": model.fallback_model},
                detours=(*request.detours, f"{FALLBACK}{name}"),
                changed=(*request.changed, decided.fell_back(name, model.fallback_model, why)),
            )
            other = self._admission.model(model.fallback_model)
            if other is None:
                return
            model = other


def _degraded(plan: Plan, step: RoadStep, why: str) -> Iterator[JobRequest]:
    shorter = shortened(plan.request.max_output_tokens) if step is RoadStep.DEGRADE else None
    if shorter is not None:
        limits: dict[str, Any] = {name: shorter for name in OUTPUT_FIELDS if name in plan.request.body}
        yield replace(
            plan.request,
            max_output_tokens=shorter,
            body=plan.request.body | (limits or {"max_tokens": shorter}),
            detours=(*plan.request.detours, f"degrade;max_tokens={shorter}"),
            changed=(*plan.request.changed, decided.degraded(f"{shorter} tokens", why)),
        )


def _told(plan: Plan, trouble: Trouble | None, refusal: Refusal) -> Refusal:
    """The refusal says whether the request would be taken as a job."""
    if plan.profile.task_type is TaskType.ONLINE and (refusal.as_job or is_deferred(plan, trouble)):
        return replace(refusal, message=would_be_a_job(plan, refusal.message), as_job=True)
    return replace(refusal, as_job=False)

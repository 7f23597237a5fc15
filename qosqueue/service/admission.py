"""May this request be queued, and with which profile?"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis
import structlog

from qosqueue.broker.scripts import Scripts, admit_arguments, waits_key
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.agreement import Agreed, Agreement, Bound
from qosqueue.policy.asked import Asked, asked_of_model, asked_of_tenant, asked_of_tier, rates_of, refusal_of
from qosqueue.policy.breaker import SOUND, State, model_breaker
from qosqueue.policy.profile import Facts, Profile, make_profile
from qosqueue.policy.quota import Quota, Verdict, counted_again, is_lasting
from qosqueue.policy.refusal import LONGEST_RETRY_S, Refusal
from qosqueue.policy.road import is_tried_again
from qosqueue.policy.terms import TIERS, OnLate, TaskType, lane_name
from qosqueue.service import decided as decisions
from qosqueue.service.agreements import Agreements
from qosqueue.service.asked_model import find_model
from qosqueue.service.catalog import Catalog
from qosqueue.service.lateness import Lateness, Outlook
from qosqueue.service.requests import Admitted, JobRequest, profile_of_row
from qosqueue.store.records import Job, Model, Tenant

# Spread, so that what was shed together does not come back together.
SHED_RETRY_S = (5, 30)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a request would run: as what (a detour changes it), on which model, with which profile, and what it needs of
    which quotas to be let in. `agreed` is what was agreed for it."""

    request: JobRequest
    model: Model
    profile: Profile
    asked: tuple[Asked, ...]
    agreed: Agreed
    was_let_in: bool = False

    @property
    def quotas(self) -> list[Quota]:
        """What the broker is asked for; of one that was let in before, what refuses nothing."""
        quotas = [each.quota for each in self.asked]
        return counted_again(quotas) if self.was_let_in else quotas

    @property
    def counted_again(self) -> Plan:
        """The plan of a request that was let in once: no quota refuses it, however full (policy/quota.py)."""
        return replace(self, was_let_in=True, asked=tuple(each for each in self.asked if is_lasting(each.quota.kind)))


class Admission:
    """Looks up the model, makes the profile, and asks the broker for all quotas at once.

    They are counted on the broker, so they hold over all web processes. What a request takes is given back or settled
    by whatever ends its message; `release` is for one that never gets a message. `most_queued` of one tier may wait.
    """

    def __init__(self, catalog: Catalog, agreements: Agreements, scripts: Scripts, most_queued: int) -> None:
        self._catalog = catalog
        self._agreements = agreements
        self._scripts = scripts
        self._lateness = Lateness(scripts)
        self._most_queued = most_queued

    def plan(self, tenant: Tenant, request: JobRequest) -> Plan | Refusal:
        """How the request would run, or why not: its model is unknown, or it is the first to be shed and there is no
        capacity. Raises BrokerUnavailable, StoreUnavailable."""
        model = find_model(self._catalog, request.model)
        if isinstance(model, Refusal):
            return model
        plan = self._plan(tenant, request, model, self._agreements.of(tenant, model.name, request.task_type))
        return self._shed(plan) or plan

    def in_time(self, tenant: Tenant, plan: Plan) -> Plan | Refusal:
        """The plan; where its tenant wants to hear of lateness, and the request would start too late, one with a target
        that can be met, or why not. Raises BrokerUnavailable, StoreUnavailable."""
        on_late = plan.agreed.on_late
        if on_late is None or plan.request.may_be_late:
            return plan
        outlook = self._lateness.outlook(plan.model.name, plan.profile)
        if not outlook.is_late:
            return plan
        if on_late is not OnLate.DOWNGRADE:
            return _too_late(plan, outlook, is_deferred=on_late is OnLate.DEFER)
        later = decisions.degraded("a start within its whole time to live", "it would have started too late")
        changed = (*plan.request.changed, later)
        detours = (*plan.request.detours, "downgrade")
        whole = plan.profile.ttl_ms
        return self.plan(tenant, replace(plan.request, latency_budget_ms=whole, detours=detours, changed=changed))

    def admit(self, plan: Plan, request_id: str) -> Admitted | Refusal:
        """Let the request in under its id, or say why not. Raises BrokerUnavailable."""
        try:
            verdict = self._scripts.admit(request=request_id, quotas=plan.quotas)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"quotas cannot be counted: {error}") from error
        return decided(plan, verdict)

    def is_in_service(self, model: str) -> bool:
        """Whether a model's breaker is not open. Raises BrokerUnavailable."""
        try:
            breaker = self._scripts.probe().get(model_breaker(model), SOUND)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"breakers cannot be looked at: {error}") from error
        return breaker.state is not State.OPEN

    def release(self, request_id: str) -> None:
        """Give back what a request took that will not be queued; with the broker away it lapses by itself."""
        try:
            self._scripts.release(request=request_id)
        except redis.RedisError as error:
            log.warning("what a request holds is left to lapse", request=request_id, error=str(error))

    def count_again(self, jobs: Sequence[tuple[Job, Tenant]]) -> None:
        """Count jobs that come back into the queue without passing the door; none is refused, and one that is counted
        is so once. Given back, as ever, by what ends its message. Raises redis.RedisError, StoreUnavailable."""
        commands = []
        for job, tenant in jobs:
            profile = profile_of_row(job)
            bounds = self._agreements.of(tenant, job.model, job.task_type).bounds
            asked = (*_asked_of(tenant, bounds, profile), asked_of_tier(profile.tier, self._most_queued))
            quotas = counted_again(each.quota for each in asked)
            commands.append(self._scripts.command("admit", *admit_arguments(job.id, quotas)))
        for answer in self._scripts.run(commands) if commands else ():
            if isinstance(answer, redis.ResponseError):
                raise answer

    def model(self, name: str) -> Model | None:
        """The model of that name, if it may be asked for."""
        model = find_model(self._catalog, name)
        return None if isinstance(model, Refusal) else model

    def _shed(self, plan: Plan) -> Refusal | None:
        """Why work that is the first to be shed is not taken: others wait for the model already. What nobody waits for
        (a job) stands behind them instead."""
        profile, model = plan.profile, plan.model
        if not profile.sheddable or profile.task_type is not TaskType.ONLINE:
            return None
        places = [(lane_name(tier, model.weight_class), model.name) for tier in TIERS]
        try:
            waiting: Any = self._scripts.client.mget([waits_key(self._scripts.key, place) for place in places])
        except redis.RedisError as error:
            raise BrokerUnavailable(f"who waits for the model is not known: {error}") from error
        if not any(map(int, filter(None, waiting))):
            return None
        return Refusal(
            429,
            "resource_unavailable",
            f"Model {model.name!r} has no capacity for service_tier flex now. Try again later, or with another tier.",
            param="service_tier",
            retry_after_s=random.randint(*SHED_RETRY_S),
        )

    def _plan(self, tenant: Tenant, request: JobRequest, model: Model, agreed: Agreement) -> Plan:
        profile = make_profile(
            Facts(
                tier=tenant.tier,
                weight_class=model.weight_class,
                task_type=request.task_type,
                prompt_tokens=request.prompt_tokens,
                max_output_tokens=request.max_output_tokens,
                latency_budget_ms=request.latency_budget_ms,
                tenant_budget_ms=agreed.agreed.online_target_ms,
                scenario_budget_ms=self._agreements.default_budget_ms(tenant, model.name, request.task_type),
                ttl_ms=request.ttl_ms,
                success_target_percent=agreed.agreed.success_target_percent,
                service_tier=request.service_tier,
            )
        )
        bounds = _asked_of(tenant, agreed.bounds, profile)
        of_model = () if request.waits_for_model else (asked_of_model(model.name),)
        asked = (*of_model, *bounds, asked_of_tier(tenant.tier, self._most_queued))
        if not is_tried_again(agreed.agreed.road):
            request = replace(request, again=False)
        return Plan(request, model, profile, asked, agreed.agreed)


def decided(plan: Plan, verdict: Verdict) -> Admitted | Refusal:
    """What the broker's verdict means for the request."""
    if not verdict.admitted:
        return refusal_of(plan.asked, verdict, plan.profile.cost_ms)
    return Admitted(plan.model, plan.profile, rates_of(plan.asked, verdict), plan.asked, verdict)


def _asked_of(tenant: Tenant, bounds: Iterable[Bound], profile: Profile) -> Iterator[Asked]:
    for bound in bounds:
        yield asked_of_tenant(
            tenant.id,
            tenant.name,
            bound.limit,
            bound.most,
            profile,
            model=bound.model,
            task_type=bound.task_type,
        )


def _too_late(plan: Plan, outlook: Outlook, *, is_deferred: bool) -> Refusal:
    wait_s = min(max(1, -(-outlook.wait_ms // 1_000)), LONGEST_RETRY_S)
    message = (
        f"Model {plan.model.name!r} has {outlook.wait_ms} ms of work ahead of this request, which should start within "
        f"{plan.profile.latency_budget_ms} ms. Try again in {wait_s} s."
    )
    return Refusal(429, "resource_unavailable", message, retry_after_s=wait_s, as_job=is_deferred)

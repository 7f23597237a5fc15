"""May this request be queued, and with which profile?"""

from __future__ import annotations

from dataclasses import dataclass

import redis
import structlog

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.asked import KINDS, Asked, asked_of_model, asked_of_tenant, asked_of_tier, rates_of, refusal_of
from qosqueue.policy.profile import Facts, Profile, make_profile
from qosqueue.policy.quota import Quota, Verdict
from qosqueue.policy.refusal import Refusal
from qosqueue.service.agreements import Agreements
from qosqueue.service.asked_model import find_model
from qosqueue.service.catalog import Catalog
from qosqueue.service.requests import Admitted, JobRequest
from qosqueue.store.records import Model, Tenant

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a request would run: its model, its profile, and what it needs of which quotas to be let in."""

    model: Model
    profile: Profile
    asked: tuple[Asked, ...]

    @property
    def quotas(self) -> list[Quota]:
        """What the broker is asked for."""
        return [each.quota for each in self.asked]


class Admission:
    """Looks up the model, makes the profile, and asks the broker for all quotas at once.

    They are counted on the broker, so they hold over all web processes. What a request takes is given back or settled
    by whatever ends its message; `release` is for one that never gets a message. `most_queued` of one tier may wait.
    """

    def __init__(self, catalog: Catalog, scripts: Scripts, most_queued: int) -> None:
        self._catalog = catalog
        self._scripts = scripts
        self._most_queued = most_queued

    def plan(self, tenant: Tenant, request: JobRequest) -> Plan | Refusal:
        """How the request would run, or that its model is unknown. Raises StoreUnavailable."""
        model = find_model(self._catalog, request.model)
        if isinstance(model, Refusal):
            return model
        agreed = self._agreements.of(tenant, model.name, request.task_type).agreed
        profile = make_profile(
            Facts(
                tier=tenant.tier,
                weight_class=model.weight_class,
                task_type=request.task_type,
                prompt_tokens=request.prompt_tokens,
                max_output_tokens=request.max_output_tokens,
                latency_budget_ms=request.latency_budget_ms,
                tenant_budget_ms=agreed.online_target_ms,
                scenario_budget_ms=self._agreements.default_budget_ms(tenant, model.name, request.task_type),
                ttl_ms=request.ttl_ms,
            )
        )
        of_tenant = (
            asked_of_tenant(tenant.id, tenant.name, limit, most, profile)
            for limit in KINDS
            if (most := getattr(tenant, limit, None)) is not None
        )
        return Plan(model, profile, (asked_of_model(model.name), *of_tenant, asked_of_tier(profile, self._most_queued)))

    def admit(self, tenant: Tenant, request: JobRequest, request_id: str) -> Admitted | Refusal:
        """Let the request in under its id, or say why not. Raises BrokerUnavailable, StoreUnavailable."""
        plan = self.plan(tenant, request)
        if isinstance(plan, Refusal):
            return plan
        try:
            verdict = self._scripts.admit(request=request_id, quotas=plan.quotas)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"quotas cannot be counted: {error}") from error
        return decided(plan, verdict)

    def release(self, request_id: str) -> None:
        """Give back what a request took that will not be queued; with the broker away it lapses by itself."""
        try:
            self._scripts.release(request=request_id)
        except redis.RedisError as error:
            log.warning("what a request holds is left to lapse", request=request_id, error=str(error))


def decided(plan: Plan, verdict: Verdict) -> Admitted | Refusal:
    """What the broker's verdict means for the request."""
    if not verdict.admitted:
        return refusal_of(plan.asked, verdict, plan.profile.cost_ms)
    return Admitted(plan.model, plan.profile, rates_of(plan.asked, verdict))

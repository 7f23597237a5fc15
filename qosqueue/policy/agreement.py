"""What is agreed for one request: the tenant's own limits and targets, or those of an override?

An override names a model, a task type or both, for one tenant or for each. Its limits hold beside those of the tenant:
they count only what comes under them. Of two with the same model and task type the one for the tenant is taken before
the one for each, field by field. A target, and what is done when a request is late or fails, is taken from the most
specific one that says it: model and task type, model, task type, then the tenant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from qosqueue.policy.terms import OnLate, RoadStep, TaskType


@dataclass(frozen=True)
class Agreed:
    """What may be agreed. A None limit is no limit, a None target or conduct the default.

    `max_in_flight` counts what is accepted and not ended, `max_queued` what waits. Latency targets are ms
    until an answer begins.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    gpu_seconds_per_day: int | None = None
    max_in_flight: int | None = None
    max_queued: int | None = None
    online_target_ms: int | None = None
    high_target_ms: int | None = None
    medium_target_ms: int | None = None
    low_target_ms: int | None = None
    success_target_percent: int | None = None
    error_budget_per_10k: int | None = None
    on_late: OnLate | None = None
    road: tuple[RoadStep, ...] | None = None


LIMITS = (
    *("requests_per_minute", "tokens_per_minute", "tokens_per_day", "gpu_seconds_per_day"),
    *("max_in_flight", "max_queued"),
)
AGREED_FIELDS = tuple(field.name for field in fields(Agreed))


@dataclass(frozen=True)
class Rule:
    """What is agreed with a tenant (None: with each), for a model and a task type (None: for any)."""

    tenant_id: str | None
    model: str | None
    task_type: TaskType | None
    agreed: Agreed

    def holds_for(self, tenant_id: str, model: str, task_type: TaskType) -> bool:
        """Whether a request comes under it."""
        return (
            self.tenant_id in (None, tenant_id) and self.model in (None, model) and self.task_type in (None, task_type)
        )

    @property
    def rank(self) -> tuple[bool, bool, bool, bool]:
        """The larger, the more specific."""
        model, task_type = self.model is not None, self.task_type is not None
        return model and task_type, model, task_type, self.tenant_id is not None


@dataclass(frozen=True)
class Bound:
    """One limit: at most `most` of what `limit` counts, over the tenant's requests of that model and task type."""

    limit: str
    most: int
    model: str | None
    task_type: TaskType | None


@dataclass(frozen=True)
class Agreement:
    """What holds for one request: every bound, and the targets and conduct of `agreed` (which has no limits)."""

    bounds: tuple[Bound, ...]
    agreed: Agreed


def agreement(tenant_id: str, own: Agreed, overrides: Iterable[Rule], model: str, task_type: TaskType) -> Agreement:
    """What holds for a tenant's request; `own` is what is agreed with it as a whole."""
    found = [rule for rule in overrides if rule.holds_for(tenant_id, model, task_type)]
    rules = sorted([*found, Rule(tenant_id, None, None, own)], key=lambda rule: rule.rank)
    bounds: dict[tuple[str | None, TaskType | None, str], Bound] = {}
    agreed = Agreed()
    for rule in rules:
        said = {name: value for name in AGREED_FIELDS if (value := getattr(rule.agreed, name)) is not None}
        for limit in LIMITS:
            if limit in said:
                bound = Bound(limit, said.pop(limit), rule.model, rule.task_type)
                bounds[rule.model, rule.task_type, limit] = bound
        agreed = replace(agreed, **said)
    return Agreement(tuple(bounds.values()), agreed)

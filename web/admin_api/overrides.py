"""How do programs set what holds for a model or a task type in place of a tenant's own, and bound what is learned?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import InvalidField, NotFound
from qosqueue.policy.document import ABOUT
from qosqueue.service.fields import one_of
from qosqueue.service.policy_file import BOUNDS
from qosqueue.service.tenant_fields import OVERRIDABLE
from qosqueue_web.admin_api.access import actor
from qosqueue_web.admin_api.policies import outcome_shape
from qosqueue_web.admin_api.policy_shapes import (
    BoundsBody,
    OutcomeShape,
    OverrideBody,
    OverrideList,
    OverrideQuery,
    OverrideShape,
    ScenarioList,
    ScenarioShape,
)

if TYPE_CHECKING:
    from qosqueue.wiring import Services


def add_overrides(api: APIBlueprint, services: Services) -> None:
    """Add the routes of overrides and of scenarios."""
    policies, agreements = services.policies, services.agreements

    def names() -> dict[str, str]:
        return {tenant.id: tenant.name for tenant in services.accounts.list_tenants()}

    def about(asked: OverrideQuery | BoundsBody) -> dict[str, str]:
        """What an entry is about, the tenant by its name, as the policy has it."""
        tenant = None if asked.tenant is None else services.accounts.get_tenant(asked.tenant).name
        given = {"tenant": tenant, "model": asked.model, "task_type": asked.task_type}
        return {name: value for name, value in given.items() if value is not None}

    @api.get("/v1/admin/overrides", operation_id="listOverrides", responses={200: OverrideList})
    def list_overrides() -> Response:
        """Every override."""
        # Tenants last: one that was made meanwhile has its name.
        found, known, fields = agreements.overrides(), names(), OverrideShape.model_fields.keys() - {"tenant"}
        shapes = [
            OverrideShape(tenant=known.get(each.tenant_id or ""), **{name: getattr(each, name) for name in fields})
            for each in found
        ]
        return jsonify(OverrideList(data=shapes).model_dump())

    @api.put("/v1/admin/overrides", operation_id="setOverride", responses={200: OutcomeShape})
    def set_override(body: OverrideBody) -> Response:
        """Set what holds for these requests; it counts within a second."""
        values = _values(body, OVERRIDABLE)
        outcome = policies.set_override(about(body), values, actor=actor(), why=body.why)
        return jsonify(outcome_shape(outcome).model_dump())

    @api.delete("/v1/admin/overrides", operation_id="removeOverride", responses={204: None})
    def remove_override(query: OverrideQuery) -> Response:
        """Take an override away."""
        wanted = about(query)
        known = names()
        if not any(_is_about(wanted, asdict(each), known.get(each.tenant_id or "")) for each in agreements.overrides()):
            raise NotFound(f"no override for {', '.join(wanted.values()) or 'nothing'}")
        policies.set_override(wanted, dict.fromkeys(OVERRIDABLE), actor=actor(), why=query.why)
        return Response(status=204)

    @api.get("/v1/admin/scenarios", operation_id="listScenarios", responses={200: ScenarioList})
    def list_scenarios() -> Response:
        """Start budgets that were learned or bounded."""
        found, known, fields = agreements.scenarios(), names(), ScenarioShape.model_fields.keys() - {"tenant"}
        shapes = [
            ScenarioShape(tenant=known[each.tenant_id], **{name: getattr(each, name) for name in fields})
            for each in found
        ]
        return jsonify(ScenarioList(data=shapes).model_dump())

    @api.put("/v1/admin/scenarios/bounds", operation_id="boundScenario", responses={200: OutcomeShape})
    def bound_scenario(body: BoundsBody) -> Response:
        """Bound what is learned for a tenant, a model and a task type."""
        values = _values(body, BOUNDS)
        outcome = policies.bound_scenario(about(body), values, actor=actor(), why=body.why)
        return jsonify(outcome_shape(outcome).model_dump())


def _values(body: OverrideBody | BoundsBody, allowed: tuple[str, ...]) -> dict[str, Any]:
    values = body.model_dump(exclude_unset=True, exclude={*ABOUT, "why"})
    if not values:
        raise InvalidField("body", f"at least {one_of(allowed)}", None)
    return values


def _is_about(wanted: dict[str, str], override: dict[str, Any], tenant: str | None) -> bool:
    found = override | {"tenant": tenant}
    return all(wanted.get(name) == found[name] for name in ABOUT)

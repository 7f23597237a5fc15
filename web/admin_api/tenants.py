"""How do programs list, make and change tenants and their keys?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from qosqueue.policy.terms import OnLate, RoadStep
from qosqueue.service.fields import ORGANISATION_NAME, TENANT_NAME
from qosqueue.service.tenant_fields import RANGES, WEIGHT_RANGE
from qosqueue.service.whole import WHOLE
from qosqueue.store.records import Tenant
from qosqueue_web.admin_api.access import actor
from qosqueue_web.admin_api.shapes import KeyList, KeyShape, NewKeyShape, TenantList, TenantShape

if TYPE_CHECKING:
    from qosqueue.wiring import Services

Whole = Annotated[int, Field(strict=True), WHOLE]


def _values_taken(schema: dict[str, Any]) -> None:
    """Tell in the document what the record takes, which checks it and words what it refuses."""
    of = schema["properties"]
    for field, (least, most) in (RANGES | {"weight": WEIGHT_RANGE}).items():
        _given(of[field]).update(minimum=least, maximum=most)
    for field, naming in (("name", TENANT_NAME), ("organisation", ORGANISATION_NAME)):
        _given(of[field])["pattern"] = f"^{naming.pattern.pattern}$"
    _given(of["on_late"])["enum"] = list(OnLate)
    _given(of["road"]).update(ROADS)
    for field in ("name", "tier", "enabled"):
        # Not sent is one thing; none of it is no value.
        of[field] = _given(of[field])


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """What a field's value may be, if it is not null."""
    given: dict[str, Any] = schema.get("anyOf", [schema])[0]
    return given


_STEPS = [step for step in RoadStep if step is not RoadStep.REJECT]


def _road_with_reject(before: int) -> dict[str, Any]:
    """So many steps, and `reject` behind them."""
    length = before + 1
    steps = [{"enum": _STEPS}] * before + [{"const": RoadStep.REJECT}]
    return {"prefixItems": steps, "minItems": length, "maxItems": length}


ROADS: dict[str, Any] = {
    "minItems": 1,
    "uniqueItems": True,
    "anyOf": [{"items": {"enum": _STEPS}}, *map(_road_with_reject, range(len(_STEPS) + 1))],
}


class TenantPath(BaseModel):
    """Which tenant, by id or name."""

    tenant: str


class KeyPath(BaseModel):
    """Which key."""

    key_id: str


class TenantChange(BaseModel):
    """What is changed of a tenant. What is not sent stays; null takes a target or limit away, and gives the weight of
    the tier. The record says which values it takes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_values_taken)

    name: str | None = None
    tier: Literal["vip", "standard", "basic"] | None = None
    weight: Whole | None = None
    organisation: str | None = None
    enabled: Annotated[bool, Field(strict=True)] | None = None
    online_target_ms: Whole | None = None
    high_target_ms: Whole | None = None
    medium_target_ms: Whole | None = None
    low_target_ms: Whole | None = None
    success_target_percent: Whole | None = None
    error_budget_per_10k: Whole | None = None
    requests_per_minute: Whole | None = None
    tokens_per_minute: Whole | None = None
    tokens_per_day: Whole | None = None
    gpu_seconds_per_day: Whole | None = None
    max_in_flight: Whole | None = None
    max_queued: Whole | None = None
    contracted_percent: Whole | None = None
    max_running: Whole | None = None
    on_late: str | None = None
    road: list[str] | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were sent."""
        return self.model_dump(exclude_unset=True)


class NewTenant(TenantChange):
    """A tenant to be made: what is not sent has its tier's value, or no limit."""

    name: str
    tier: Literal["vip", "standard", "basic"]


def add_tenants(api: APIBlueprint, services: Services) -> None:
    """Add the routes of tenants and keys."""
    accounts = services.accounts

    @api.get("/v1/admin/tenants", operation_id="listTenants", responses={200: TenantList})
    def list_tenants() -> Response:
        """All tenants by name, disabled ones too."""
        return jsonify(TenantList(data=[_shape(tenant) for tenant in accounts.list_tenants()]).model_dump())

    @api.get("/v1/admin/tenants/<tenant>", operation_id="getTenant", responses={200: TenantShape})
    def get_tenant(path: TenantPath) -> Response:
        """One tenant."""
        return _answer(accounts.get_tenant(path.tenant))

    @api.post("/v1/admin/tenants", operation_id="createTenant", responses={201: TenantShape})
    def create_tenant(body: NewTenant) -> Response:
        """Make a tenant."""
        given = body.given()
        made = accounts.create_tenant(given.pop("name"), given.pop("tier"), actor=actor(), **given)
        response = _answer(made)
        response.status_code = 201
        response.headers["Location"] = f"/v1/admin/tenants/{made.id}"
        return response

    @api.patch("/v1/admin/tenants/<tenant>", operation_id="updateTenant", responses={200: TenantShape})
    def update_tenant(path: TenantPath, body: TenantChange) -> Response:
        """Change what is sent of a tenant."""
        found = accounts.get_tenant(path.tenant)
        return _answer(accounts.update_tenant(found.id, actor=actor(), **body.given()))

    @api.get("/v1/admin/tenants/<tenant>/keys", operation_id="listKeys", responses={200: KeyList})
    def list_keys(path: TenantPath) -> Response:
        """A tenant's keys by their first characters, revoked ones too."""
        keys = [KeyShape(**asdict(key)) for key in accounts.list_keys(path.tenant)]
        return jsonify(KeyList(data=keys).model_dump())

    @api.post("/v1/admin/tenants/<tenant>/keys", operation_id="createKey", responses={201: NewKeyShape})
    def create_key(path: TenantPath) -> Response:
        """Make a key: this answer is the only place where it is ever shown."""
        made = accounts.create_key(path.tenant, actor=actor())
        response = jsonify(NewKeyShape(**asdict(made)).model_dump())
        response.status_code = 201
        return response

    @api.post("/v1/admin/keys/<key_id>/revoke", operation_id="revokeKey", responses={200: KeyShape})
    def revoke_key(path: KeyPath) -> Response:
        """End a key, within two seconds everywhere. A second time changes nothing."""
        revoked = accounts.revoke_key(path.key_id, actor=actor())
        return jsonify(KeyShape(**asdict(revoked)).model_dump())


def _shape(tenant: Tenant) -> TenantShape:
    return TenantShape(**{name: getattr(tenant, name) for name in TenantShape.model_fields})


def _answer(tenant: Tenant) -> Response:
    return jsonify(_shape(tenant).model_dump())

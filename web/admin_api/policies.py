"""How do programs read the policy, check and apply a whole one, and take it back to an old version?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel

from qosqueue.errors import InvalidPolicy
from qosqueue.policy.document import Difference
from qosqueue.service import policy_file
from qosqueue.service.policies import Outcome
from qosqueue.store.records import PolicyVersion
from qosqueue_web.admin_api.access import actor
from qosqueue_web.admin_api.policy_shapes import (
    CheckedShape,
    DifferenceList,
    DifferenceShape,
    DiffQuery,
    FaultShape,
    OutcomeShape,
    PolicyBody,
    PolicyQuery,
    PolicyShape,
    PolicyText,
    VersionDetail,
    VersionList,
    VersionPath,
    VersionShape,
    VersionsQuery,
    WhyBody,
)

if TYPE_CHECKING:
    from qosqueue.wiring import Services


def add_policies(api: APIBlueprint, services: Services) -> None:
    """Add the routes of the policy as a whole and of its versions."""
    policies, approve = services.policies, services.catalog.keep_engine

    @api.get("/v1/admin/policy", operation_id="getPolicy", responses={200: PolicyShape})
    def get_policy(query: PolicyQuery) -> Response:
        """The whole policy: what holds now, or an old version."""
        if query.version is None:
            newest, document = policies.versions.list(1), policies.current()
            version = newest[0].number if newest else None
        else:
            version, document = query.version, policies.document_of(query.version)
        return _json(PolicyShape(version=version, toml=policy_file.written(document), document=document))

    @api.put("/v1/admin/policy", operation_id="applyPolicy", responses={200: OutcomeShape})
    def apply_policy(body: PolicyBody) -> Response:
        """Make the record say what a policy.toml says, as `qosqueue policy apply` does; what was sent gets the source
        `file`. Engines and options of models stay as they are."""
        wanted = policy_file.parse(body.toml)
        return _json(outcome_shape(policies.apply(wanted, actor=actor(), why=body.why, approve=approve)))

    @api.post("/v1/admin/policy/validate", operation_id="validatePolicy", responses={200: CheckedShape})
    def validate_policy(body: PolicyText) -> Response:
        """Say what is wrong with a policy.toml, or what it would change; changes nothing."""
        try:
            found = policies.check(policy_file.parse(body.toml))
        except InvalidPolicy as error:
            faults = [FaultShape(key=fault.field, expected=fault.expected) for fault in error.faults]
            return _json(CheckedShape(valid=False, faults=faults, differences=[]))
        return _json(CheckedShape(valid=True, faults=[], differences=difference_shapes(found)))

    @api.get("/v1/admin/policy/versions", operation_id="listPolicyVersions", responses={200: VersionList})
    def list_policy_versions(query: VersionsQuery) -> Response:
        """Who changed the policy, when and why, the newest first."""
        return _json(VersionList(data=[VersionShape(**_told(each)) for each in policies.versions.list(query.limit)]))

    @api.get("/v1/admin/policy/versions/<number>", operation_id="getPolicyVersion", responses={200: VersionDetail})
    def get_policy_version(path: VersionPath) -> Response:
        """One version, and what it changed."""
        found, changed = policies.versions.get(path.number), policies.changed_in(path.number)
        shapes = None if changed is None else difference_shapes(changed)
        return _json(VersionDetail(**_told(found), differences=shapes))

    @api.get("/v1/admin/policy/diff", operation_id="diffPolicy", responses={200: DifferenceList})
    def diff_policy(query: DiffQuery) -> Response:
        """What differs between two versions, or between one and what holds now."""
        return _json(DifferenceList(data=difference_shapes(policies.between(query.before, query.after))))

    @api.post(
        "/v1/admin/policy/versions/<number>/rollback", operation_id="rollbackPolicy", responses={200: OutcomeShape}
    )
    def rollback_policy(path: VersionPath, body: WhyBody) -> Response:
        """Make an old version hold again, as a new version. Engines and options of models stay as they are."""
        why = body.why or f"back to version {path.number}"
        return _json(outcome_shape(policies.rollback(path.number, actor=actor(), why=why, approve=approve)))


def outcome_shape(outcome: Outcome) -> OutcomeShape:
    """What a change has come to."""
    return OutcomeShape(version=outcome.version, differences=difference_shapes(outcome.differences))


def difference_shapes(found: Sequence[Difference]) -> list[DifferenceShape]:
    """What differs."""
    return [DifferenceShape(**asdict(each)) for each in found]


def _told(version: PolicyVersion) -> dict[str, object]:
    return {name: getattr(version, name) for name in VersionShape.model_fields}


def _json(shape: BaseModel) -> Response:
    return jsonify(shape.model_dump())

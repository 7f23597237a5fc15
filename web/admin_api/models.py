"""Which models are in the catalog, for programs of operators?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue_web.admin_api.shapes import ModelShape, ModelShapeList

if TYPE_CHECKING:
    from qosqueue.wiring import Services


def add_models(api: APIBlueprint, services: Services) -> None:
    """Add the route of models."""

    @api.get("/v1/admin/models", operation_id="listModels", responses={200: ModelShapeList})
    def list_models() -> Response:
        """All models, disabled ones too."""
        found = services.catalog.list_models()
        shapes = [ModelShape(**{name: getattr(one, name) for name in ModelShape.model_fields}) for one in found]
        return jsonify(ModelShapeList(data=shapes).model_dump())

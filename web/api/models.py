"""Which models may be asked for?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.store.records import Model
from qosqueue_web.api.answers import ModelAnswer, ModelList, model_answer
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.schemas import ModelPath

if TYPE_CHECKING:
    from qosqueue.service.catalog import Catalog
    from qosqueue.wiring import Services


def find_model(catalog: Catalog, name: str) -> Model | Refusal:
    """The model that a tenant asked for; one that is switched off is as unknown as one that never was."""
    try:
        model = catalog.get_model(name)
    except NotFound:
        model = None
    if model is None or not model.enabled:
        return Refusal(404, "model_not_found", f"there is no model {name[:128]!r}; GET /v1/models lists all", "model")
    return model


def add_models(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/models."""

    @api.get("/v1/models", operation_id="listModels", responses={200: ModelList})
    def list_models() -> Response:
        """List the models."""
        models = [model_answer(model) for model in services.catalog.list_models() if model.enabled]
        return jsonify(ModelList(data=models).model_dump())

    @api.get("/v1/models/<path:name>", operation_id="retrieveModel", responses={200: ModelAnswer})
    def retrieve_model(path: ModelPath) -> Response:
        """One model."""
        found = find_model(services.catalog, path.name)
        if isinstance(found, Refusal):
            return error_response(found)
        return jsonify(model_answer(found).model_dump())

"""Which models may be asked for?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue.policy.refusal import Refusal
from qosqueue.service.asked_model import find_model
from qosqueue_web.api.answers import ModelAnswer, ModelList, model_answer
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.queries import ModelPath

if TYPE_CHECKING:
    from qosqueue.wiring import Services


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

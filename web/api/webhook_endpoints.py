"""How does a tenant say where it wants to be told of events? With the calls of OpenAI's client (`client.webhooks`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, abort, jsonify
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.service.body_faults import invalid_value
from qosqueue.service.bulk_bodies import WebhookEndpointBody, WebhookEndpointChanges
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.bulk_answers import (
    DeletedWebhookEndpoint,
    WebhookEndpointAnswer,
    WebhookEndpointList,
    WebhookEndpointWithSecret,
    webhook_answer,
)
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.idempotent import keep_instead
from qosqueue_web.api.queries import WebhookEndpointPath

if TYPE_CHECKING:
    from qosqueue.wiring import Services

_UNKNOWN = Refusal(404, "webhook_endpoint_not_found", "there is no such webhook endpoint", "webhook_endpoint_id")
_ONE = "/v1/webhook_endpoints/<webhook_endpoint_id>"


def add_webhook_endpoints(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/webhook_endpoints."""
    webhooks = services.webhooks

    @api.post("/v1/webhook_endpoints", operation_id="createWebhook", responses={200: WebhookEndpointWithSecret})
    def create_webhook(body: WebhookEndpointBody) -> Response:
        """Add an endpoint. Its signing secret is in this answer and in no other."""
        tenant = current_tenant()
        try:
            made, secret = webhooks.add(
                tenant.id, name=body.name, url=body.url, event_types=body.event_types, actor=_actor()
            )
        except InvalidField as fault:
            return error_response(invalid_value(fault.field, f"expected {fault.expected}"))
        except Conflict as why:
            return error_response(Refusal(429, "insufficient_quota", str(why)))
        keep_instead(webhook_answer(made).model_dump_json())
        return jsonify(webhook_answer(made, secret).model_dump())

    @api.get("/v1/webhook_endpoints", operation_id="listWebhooks", responses={200: WebhookEndpointList})
    def list_webhooks() -> Response:
        """List the tenant's endpoints; there is one page."""
        page = [webhook_answer(each) for each in webhooks.list(current_tenant().id)]
        return jsonify(WebhookEndpointList.of(page, has_more=False).model_dump())

    @api.get(_ONE, operation_id="retrieveWebhook", responses={200: WebhookEndpointAnswer})
    def retrieve_webhook(path: WebhookEndpointPath) -> Response:
        """One endpoint, without its secret."""
        try:
            return jsonify(webhook_answer(webhooks.get(current_tenant().id, path.webhook_endpoint_id)).model_dump())
        except NotFound:
            abort(error_response(_UNKNOWN))

    @api.post(_ONE, operation_id="updateWebhook", responses={200: WebhookEndpointAnswer})
    def update_webhook(path: WebhookEndpointPath, body: WebhookEndpointChanges) -> Response:
        """Change an endpoint; one that was disabled hears of events again."""
        changes = body.model_dump(exclude_none=True)
        try:
            changed = webhooks.update(current_tenant().id, path.webhook_endpoint_id, actor=_actor(), **changes)
        except NotFound:
            abort(error_response(_UNKNOWN))
        except InvalidField as fault:
            return error_response(invalid_value(fault.field, f"expected {fault.expected}"))
        return jsonify(webhook_answer(changed).model_dump())

    @api.post(f"{_ONE}/rotate_secret", operation_id="rotateWebhook", responses={200: WebhookEndpointWithSecret})
    def rotate_webhook(path: WebhookEndpointPath) -> Response:
        """Give an endpoint another secret: the old one signs nothing from now on."""
        try:
            changed, secret = webhooks.rotate(current_tenant().id, path.webhook_endpoint_id, actor=_actor())
        except NotFound:
            abort(error_response(_UNKNOWN))
        return jsonify(webhook_answer(changed, secret).model_dump())

    @api.delete(_ONE, operation_id="deleteWebhook", responses={200: DeletedWebhookEndpoint})
    def delete_webhook(path: WebhookEndpointPath) -> Response:
        """Remove an endpoint; what was still to be sent to it is not sent."""
        try:
            gone = webhooks.remove(current_tenant().id, path.webhook_endpoint_id, actor=_actor())
        except NotFound:
            abort(error_response(_UNKNOWN))
        return jsonify(DeletedWebhookEndpoint(id=gone.id).model_dump())


def _actor() -> str:
    return f"tenant:{current_tenant().name}"

"""How is the web process put together? `create_app()` wires it once; importing this module starts nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Request, Response, jsonify
from flask.sessions import SessionInterface, SessionMixin
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.info import Info
from flask_openapi.models.security_scheme import SecurityScheme
from flask_openapi.openapi import OpenAPI
from flask_openapi.types import ResponseDict
from werkzeug.middleware.proxy_fix import ProxyFix

from qosqueue import __version__
from qosqueue.service.body_faults import refusal_of_validation
from qosqueue.service.home_keys import session_key
from qosqueue.settings import load_settings
from qosqueue.telemetry.logs import log_to_stderr
from qosqueue.wiring import Services, build
from qosqueue_web import admin, security
from qosqueue_web.admin_api import PATHS as ADMIN_API_PATHS
from qosqueue_web.admin_api import make_admin_api
from qosqueue_web.api import errors, headers
from qosqueue_web.api.answers import ErrorBody
from qosqueue_web.api.auth import tenants_only
from qosqueue_web.api.batches import add_batches
from qosqueue_web.api.completions import add_completions
from qosqueue_web.api.embeddings import add_embeddings
from qosqueue_web.api.files import FORM, add_files
from qosqueue_web.api.health import add_health
from qosqueue_web.api.idempotent import once
from qosqueue_web.api.jobs import add_jobs
from qosqueue_web.api.models import add_models
from qosqueue_web.api.responses import add_responses
from qosqueue_web.api.strict_json import StrictRequest
from qosqueue_web.api.webhook_endpoints import add_webhook_endpoints
from qosqueue_web.document import Made, finish
from qosqueue_web.fast_road import FastRoad

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

OPENAPI_VERSION = "3.1.0"
DOCUMENT = "/openapi.json"
STREAMED = ("createChatCompletion", "createCompletion", "createResponse")
MADE = {
    "submitJob": (Made("/id", "id", ("retrieveJob", "explainJob", "cancelJob")),),
    "createResponse": (Made("/id", "id", ("retrieveResponse", "cancelResponse")),),
    "listModels": (Made("/data/0/id", "name", ("retrieveModel",)),),
    "createFile": (Made("/id", "file_id", ("retrieveFile", "downloadFile", "deleteFile")),),
    "createBatch": (Made("/id", "batch_id", ("retrieveBatch", "cancelBatch")),),
    "createWebhook": (
        Made("/id", "webhook_endpoint_id", ("retrieveWebhook", "updateWebhook", "rotateWebhook", "deleteWebhook")),
    ),
}
_FAILURES: ResponseDict = dict.fromkeys((400, 401, 404, 405, 409, 413, 415, 422, 429, 500, 503, 504), ErrorBody)


def create_app(services: Services | None = None) -> Flask:
    """The WSGI application over `services`; without them, over those that the environment's settings describe.

    Without them this is the process's start, so its logging is set up too. Raises SettingsError, StoreUnavailable or
    BrokerUnavailable with one clear line.
    """
    if services is None:
        settings = load_settings()
        log_to_stderr(settings.log_level)
        services = build(settings)
    app = OpenAPI(
        "qosqueue_web",
        info=Info(title="qosqueue", version=__version__),
        security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")},
        validation_error_status=400,
        validation_error_model=ErrorBody,
        validation_error_callback=lambda fault: errors.error_response(refusal_of_validation(fault)),
        doc_ui=False,
        static_folder=None,  # the pages serve their own, under /admin
    )
    app.openapi_version = OPENAPI_VERSION
    app.session_interface = NoSession()
    _furnish(app, services)
    security.guard_api(app)
    _add_api(app, services)
    pages = _pages(services)
    admin_api = make_admin_api(services)
    api = FastRoad(services, app.wsgi_app)

    def by_path(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(ADMIN_API_PATHS):
            return admin_api.wsgi_app(environ, start_response)
        return (pages.wsgi_app if errors.is_page(path) else api)(environ, start_response)

    app.wsgi_app = by_path  # type: ignore[method-assign]
    if services.settings.trusted_proxies:
        hops = services.settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    return app


class NoSession(SessionInterface):
    """The API knows its callers by their keys: no cookie is read, checked or written for its answers."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        """None: whoever uses a session behind the API has made a mistake, and Flask says so."""
        return None

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """There is nothing to save."""


def _pages(services: Services) -> Flask:
    """The admin pages, an application of their own: what they do for every request is no business of the API."""
    pages = Flask("qosqueue_web", static_folder=None)
    pages.secret_key = session_key(services.settings.home)
    pages.config["ADMIN_HTTPS"] = services.settings.https
    _furnish(pages, services)
    security.guard_pages(pages)
    admin.register(pages, services)
    return pages


def _furnish(app: Flask, services: Services) -> None:
    app.request_class = StrictRequest
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    headers.register(app)
    errors.register(app)


def _add_api(app: OpenAPI, services: Services) -> None:
    public = APIBlueprint("health", __name__, abp_responses=_FAILURES)
    add_health(public, services)
    tenants = APIBlueprint("api", __name__, abp_responses=_FAILURES, abp_security=[{"bearer": []}])
    tenants.before_request(tenants_only(services.accounts))
    claim_key, keep_answer = once(services.idempotency, services.settings.max_file_bytes)
    tenants.before_request(claim_key)
    tenants.after_request(keep_answer)
    add_completions(tenants, services)
    add_embeddings(tenants, services)
    add_responses(tenants, services)
    add_models(tenants, services)
    add_jobs(tenants, services)
    add_files(tenants, services)
    add_batches(tenants, services)
    add_webhook_endpoints(tenants, services)
    app.register_api(public)
    app.register_api(tenants)
    document = finish(app, made=MADE, streamed=STREAMED, forms={"createFile": FORM})

    @app.get(DOCUMENT, doc_ui=False)
    def openapi_document() -> Response:
        return jsonify(document)

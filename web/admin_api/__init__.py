"""What may programs do that operators do by page and command? The admin API, an application of its own.

Its addresses begin with /v1/admin/, its failures are problems (RFC 9457), its callers show a user's token.
"""

from __future__ import annotations

from flask import Flask, Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models import OPENAPI3_REF_TEMPLATE
from flask_openapi.models.info import Info
from flask_openapi.models.security_scheme import SecurityScheme
from flask_openapi.openapi import OpenAPI
from flask_openapi.types import ResponseDict

from qosqueue import __version__
from qosqueue.wiring import Services
from qosqueue_web import security
from qosqueue_web.admin_api import access, breakers, jobs, models, overrides, policies, problems, queues, tenants
from qosqueue_web.admin_api.problems import PROBLEM_JSON, AdminRequest, Problem
from qosqueue_web.api import headers
from qosqueue_web.document import Made, finish

PATHS = "/v1/admin/"
DOCUMENT = "/v1/admin/openapi.json"
_PROBLEM = {"schema": {"$ref": OPENAPI3_REF_TEMPLATE.format(model=Problem.__name__)}}
_FAILURES: ResponseDict = {
    status: {"content": {PROBLEM_JSON: _PROBLEM}} for status in (400, 401, 403, 404, 405, 409, 413, 415, 500, 503)
}
MADE = {
    "createTenant": (Made("/id", "tenant", ("getTenant", "updateTenant", "listKeys", "createKey")),),
    "createKey": (Made("/id", "key_id", ("revokeKey",)),),
    "setLimit": (Made("/name", "name", ("liftLimit",)),),
    "listJobs": (Made("/data/0/id", "job_id", ("getJob", "cancelJob", "rerankJob")),),
    "listDeadLetters": (Made("/data/0/tag", "task", ("replayDeadLetter", "discardDeadLetter")),),
}


def make_admin_api(services: Services) -> Flask:
    """The application under /v1/admin/."""
    app = OpenAPI(
        "qosqueue_web",
        info=Info(title="qosqueue admin", version=__version__),
        security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")},
        validation_error_status=400,
        validation_error_model=Problem,
        validation_error_callback=problems.of_validation,
        doc_ui=False,
        static_folder=None,
    )
    app.openapi_version = "3.1.0"
    app.request_class = AdminRequest
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    headers.register(app)
    problems.register(app)
    security.guard_api(app)
    operators = APIBlueprint("admin_api", __name__, abp_responses=_FAILURES, abp_security=[{"bearer": []}])
    operators.before_request(access.users_only(services.user_tokens))
    tenants.add_tenants(operators, services)
    queues.add_queues(operators, services)
    jobs.add_jobs(operators, services)
    models.add_models(operators, services)
    breakers.add_breakers(operators, services)
    policies.add_policies(operators, services)
    overrides.add_overrides(operators, services)
    app.register_api(operators)
    document = finish(app, made=MADE)

    @app.get(DOCUMENT, doc_ui=False)
    def openapi_document() -> Response:
        return jsonify(document)

    return app

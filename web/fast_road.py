"""How does a sound chat reach its answer without Flask's machinery? A door in front of it, for that one request.

Flask, its hooks and its response take longer than the queue and the worker together (docs/adr/0008). The door runs
the same functions as Flask's route (web/api/answering.py). Whatever is not a plain, sound chat of a known tenant it
leaves to Flask, with its body untouched, before anything was counted or queued: so every refusal is told in one place.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from werkzeug.wsgi import ClosingIterator

from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.service.answers import CHAT
from qosqueue.service.bodies import ChatBody
from qosqueue.store.records import Tenant
from qosqueue_web.api.answering import answer_now
from qosqueue_web.api.auth import bearer_key
from qosqueue_web.api.completions import chat_frame
from qosqueue_web.api.errors import refusal_of_outage
from qosqueue_web.api.headers import REQUEST_ID, request_id, trace_headers
from qosqueue_web.api.sent import Answer, refused
from qosqueue_web.security import API_HEADERS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from qosqueue.wiring import Services

JSON = "application/json"
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

log = logging.getLogger(__name__)


class FastRoad:
    """A WSGI application that answers sound chats itself, and passes everything else to `rest`."""

    def __init__(self, services: Services, rest: WSGIApplication) -> None:
        self._services = services
        self._rest = rest
        self._max_body_bytes = services.settings.max_body_bytes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == CHAT and environ["REQUEST_METHOD"] == "POST":
            tenant = self._tenant(environ)
            body = None if tenant is None else self._body(environ)
            if tenant is not None and body is not None:
                return self._answered(tenant, body, environ, start_response)
        return self._rest(environ, start_response)

    def _answered(
        self, tenant: Tenant, body: ChatBody, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        name = request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        answer = self._answer(tenant, body, environ, name)
        status = _STATUS_LINES.get(answer.status, f"{answer.status} UNKNOWN")
        start_response(status, [*answer.headers, *API_HEADERS, (REQUEST_ID, name), *trace_headers(environ)])
        return ClosingIterator(answer.pieces, answer.close)

    def _answer(self, tenant: Tenant, body: ChatBody, environ: WSGIEnvironment, name: str) -> Answer:
        try:
            return answer_now(self._services, tenant, body, environ, name, chat_frame(body))
        except (BrokerUnavailable, StoreUnavailable) as outage:
            log.warning("%s: %s (request %s)", type(outage).__name__, outage, name)
            return refused(refusal_of_outage(outage))
        except Exception:
            log.exception("a chat could not be answered (request %s)", name)
            return refused(Refusal(500, "internal_error", "the server failed to answer; its id names the log entry"))

    def _tenant(self, environ: WSGIEnvironment) -> Tenant | None:
        key = bearer_key(environ.get("HTTP_AUTHORIZATION", ""))
        try:
            return None if key is None else self._services.accounts.authenticate(key)
        except StoreUnavailable:
            return None

    def _body(self, environ: WSGIEnvironment) -> ChatBody | None:
        """The body, if it is JSON of a told, bearable length that the schema takes, and no header changes it."""
        length = environ.get("CONTENT_LENGTH") or ""
        kind = environ.get("CONTENT_TYPE") or ""
        if (
            kind.partition(";")[0].strip().lower() != JSON
            or not length.isdecimal()
            or int(length) > self._max_body_bytes
            or "HTTP_TRANSFER_ENCODING" in environ
            or "HTTP_X_LATENCY_BUDGET_MS" in environ
            or "HTTP_IDEMPOTENCY_KEY" in environ
        ):
            return None
        sent = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(sent)
        try:
            value: Any = from_json(sent, allow_inf_nan=False)
            return ChatBody.model_validate(value) if isinstance(value, dict) else None
        except ValueError:
            return None

"""What does the header `Idempotency-Key` do? The same request under the same key happens once and is answered alike.

It counts for every POST that makes something, which is every one to an address without an id. A refused request has
made nothing and leaves its key free.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, g, request
from pydantic_core import from_json

from qosqueue.policy.refusal import Refusal
from qosqueue.service.answers import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from qosqueue.service.body_faults import invalid_value
from qosqueue.service.idempotency import ANSWERS_WITHIN_MS, REUSED, SUBMITS_WITHIN_MS, Claim, Idempotency, KeptAnswer
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.upload import Nowhere, receive

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Those take their time: a model answers, or a file comes over a slow line.
_LONG = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, "/v1/files")


def made_id() -> dict[str, Any]:
    """The id under which the request at hand is to make its job, as a change of JobRequest; none without a key."""
    claim: Claim | None = g.get("claim")
    return {} if claim is None else {"id": claim.made_id, "is_keyed": True}


def keep_instead(answer: str) -> None:
    """What is kept for the same request in place of the answer at hand, which tells a secret."""
    g.kept_instead = answer


def keep_content(digest: str) -> None:
    """What was sent, for the same request to be compared with: a file's is known only when all of it has come."""
    g.kept_content = digest


def once(
    idempotency: Idempotency, max_file_bytes: int
) -> tuple[Callable[[], Response | None], Callable[[Response], Response]]:
    """A `before_request`, for behind the one that finds the tenant, and an `after_request`."""

    def before() -> Response | None:
        key = request.headers.get(HEADER)
        if key is None or request.method != "POST" or request.view_args:
            return None
        if not _KEY.fullmatch(key):
            return error_response(invalid_value(HEADER, "expected 1 to 255 visible ASCII characters"))
        body = _json_body()
        is_long = request.path in _LONG and not (isinstance(body, dict) and body.get("background"))
        within_ms = ANSWERS_WITHIN_MS if is_long else SUBMITS_WITHIN_MS
        found = idempotency.claim(current_tenant().id, key, _fingerprint(body), within_ms)
        if isinstance(found, Refusal):
            return error_response(found)
        if isinstance(found, KeptAnswer):
            return _told_again(found, max_file_bytes)
        g.claim = found
        return None

    def after(response: Response) -> Response:
        claim: Claim | None = g.pop("claim", None)
        if claim is None:
            return response
        if response.status_code >= 300:
            idempotency.release(claim)
        elif response.is_streamed:
            _keep_at_its_end(idempotency, claim, response, g.get("is_complete", lambda: True))
        else:
            body = g.pop("kept_instead", None) or response.get_data(as_text=True)
            idempotency.keep(claim, _kept(response, body, g.pop("kept_content", None)))
        return response

    return before, after


def _told_again(kept: KeptAnswer, max_file_bytes: int) -> Response:
    if kept.content is not None:
        form = receive(request, Nowhere(), max_file_bytes)
        if isinstance(form, Refusal):
            return error_response(form)
        if form.digest != kept.content:
            return error_response(REUSED)
    again = Response(kept.body, kept.status, [(name, value) for name, value in kept.headers])
    again.headers["Idempotent-Replayed"] = "true"
    return again


def _keep_at_its_end(
    idempotency: Idempotency, claim: Claim, response: Response, is_complete: Callable[[], bool]
) -> None:
    """A stream is kept once it was sent whole and its answer is complete; else nothing was."""
    pieces: list[bytes] = []
    told: Any = response.response

    def passing() -> Iterator[bytes]:
        for piece in told:
            pieces.append(piece)
            yield piece

    def ended() -> None:
        if is_complete():
            idempotency.keep(claim, _kept(response, b"".join(pieces).decode()))
        else:
            idempotency.release(claim)

    response.response = passing()
    response.call_on_close(ended)


def _kept(response: Response, body: str, content: str | None = None) -> KeptAnswer:
    return KeptAnswer(response.status_code, [[name, value] for name, value in response.headers], body, content)


def _json_body() -> Any:
    """The body as a value; None where it is none, or no JSON: then its route refuses it."""
    if not request.is_json:
        return None
    try:
        return from_json(request.get_data(), allow_inf_nan=False)
    except ValueError:
        return None


def _fingerprint(body: Any) -> str:
    """The same for the same method, address and JSON, however that is written. A file that is sent is not read here,
    which would keep all of it in memory: it is compared when the key turns out to be answered."""
    what = [request.method, request.path, body]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

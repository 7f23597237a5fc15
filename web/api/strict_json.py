"""Is the request's body a JSON object that can be trusted to be plain data?

Everything that a lenient parser lets through is refused here, before any schema is asked: NaN and Infinity, lone
surrogates, integers of more than 4300 digits, nesting beyond 200 levels, a byte-order mark, a body that is no object.
"""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Request, abort
from pydantic_core import from_json
from werkzeug.exceptions import RequestEntityTooLarge

from qosqueue.policy.refusal import Refusal
from qosqueue_web.api.errors import error_response


class StrictRequest(Request):
    """A request whose `get_json` answers with an OpenAI error (400, 413 or 415) instead of returning a surprise."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as a dict. The arguments are Flask's; none of them makes this parser more lenient."""
        if not self.is_json:
            self.refuse(
                Refusal(415, "unsupported_media_type", "the body must be sent as Content-Type: application/json")
            )
        try:
            parsed = from_json(self._whole_body(cache), allow_inf_nan=False)
        except ValueError as fault:
            self.refuse(Refusal(400, "invalid_json", f"the body is not valid JSON: {fault}"))
        if not isinstance(parsed, dict):
            self.refuse(Refusal(400, "invalid_json", "the body must be a JSON object"))
        return parsed

    def refuse(self, refusal: Refusal) -> NoReturn:
        """End the request with this refusal; another API may word it otherwise."""
        abort(error_response(refusal))

    def _whole_body(self, cache: bool) -> bytes:
        body = self.get_data(cache=cache)
        # Werkzeug cuts a body of untold length at the limit without a word; a told length it has refused before.
        limit = self.max_content_length
        if self.content_length is None and limit is not None and len(body) >= limit:
            raise RequestEntityTooLarge
        return body

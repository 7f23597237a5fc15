"""Is this answer an OpenAI error?"""

from __future__ import annotations

from werkzeug.test import TestResponse

KEYS = {"message", "type", "param", "code"}


def error_of(response: TestResponse, status: int | None = None) -> dict[str, str | None]:
    """The error of a failed answer, after checking its shape (and status)."""
    assert response.status_code >= 400, response.text
    if status is not None:
        assert response.status_code == status, response.text
    body = response.get_json()
    assert set(body) == {"error"}
    assert set(body["error"]) == KEYS
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]
    assert isinstance(body["error"]["code"], str)
    assert response.headers["x-request-id"]
    return body["error"]

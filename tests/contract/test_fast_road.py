"""Does a chat get the same answer in front of Flask as behind it, and Flask all that is not a plain sound chat?"""

from __future__ import annotations

from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Failed, Started
from qosqueue_web.fast_road import FastRoad
from tests.support.memory_services import MODEL, MemoryServices, answer_of

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi é😀"}]}
OWN = {"date", "content-length", "x-request-id", "server-timing", "retry-after"}
# Whoever sends this header takes Flask's way; the value is the body's own, so nothing else differs.
BUDGET_MS = 700
BEHIND = {"X-Latency-Budget-Ms": str(BUDGET_MS)}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which requests the door answered itself, by their ids."""
    found: list[str] = []
    answered = FastRoad._answered

    def noted(self: FastRoad, tenant: Any, body: Any, environ: Any, start_response: Any) -> Any:
        found.append(environ.get("HTTP_X_REQUEST_ID", ""))
        return answered(self, tenant, body, environ, start_response)

    monkeypatch.setattr(FastRoad, "_answered", noted)
    return found


def both(client: FlaskClient, auth: dict[str, str], body: dict[str, Any]) -> tuple[Any, Any]:
    """The answers in front of Flask and behind it."""
    sent = {**body, "latency_budget_ms": BUDGET_MS}
    return (
        client.post(PATH, json=sent, headers={**auth, "x-request-id": "front"}),
        client.post(PATH, json=sent, headers={**auth, **BEHIND, "x-request-id": "behind"}),
    )


def told(response: Any) -> tuple[int, dict[str, str], str]:
    headers = {name.lower(): value for name, value in response.headers.items() if name.lower() not in OWN}
    # Of a stream, how many chunks: its ids are its own.
    body = response.get_json(silent=True)
    return response.status_code, headers, str(body if body is not None else response.text.count("data: "))


REFUSED = Refusal(429, "rate_limit_exceeded", "too many", retry_after_s=7)
TOO_LONG = Failed({"status": 400, "code": "context_length_exceeded", "message": "too long", "param": "messages"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", ["answer", "refusal", "failure", "unknown model", "broker away", "bug"])
def test_it_is_the_same_answer(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], taken: list[str], stream: bool, case: str
) -> None:
    body = {**CHAT, "stream": stream}
    services.online.script = lambda request: answer_of("Hello", " é😀")
    if case == "refusal":
        services.online.refuse_with = REFUSED
    elif case == "failure":
        services.online.script = lambda request: [Started("w", 1), TOO_LONG]
    elif case == "unknown model":
        body["model"] = "never"
    elif case == "broker away":
        services.online.raise_this = BrokerUnavailable("gone")
    elif case == "bug":
        services.online.raise_this = KeyError("canary")
    front, behind = both(client, auth, body)
    assert taken == ["front"]
    assert told(front)[:2] == told(behind)[:2]
    if case == "bug":
        assert "canary" not in front.text
        assert front.get_json()["error"]["code"] == behind.get_json()["error"]["code"] == "internal_error"
    else:
        assert told(front)[2] == told(behind)[2]
    assert ("Retry-After" in front.headers) == ("Retry-After" in behind.headers)
    for response, name in ((front, "front"), (behind, "behind")):
        assert response.headers["x-request-id"] == name
        response.close()
    assert all(call.closed.is_set() for call in services.online.calls)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"headers": {"Authorization": ""}}, 401),
        ({"headers": {"Authorization": "Bearer qq_unknown"}}, 401),
        ({"headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": b'{"model": '}, 400),
        ({"data": b"[1]"}, 400),
        ({"data": b'{"model": NaN}'}, 400),
        ({"data": b'{"model": "tiny", "messages": [], "stream": "yes"}'}, 400),
        ({"data": b"{" + b" " * 300_000 + b"}"}, 413),
        ({"headers": {"X-Latency-Budget-Ms": "soon"}}, 400),
    ],
)
def test_what_is_not_a_sound_chat_is_left_to_flask_with_its_body(
    client: FlaskClient,
    services: MemoryServices,
    auth: dict[str, str],
    taken: list[str],
    change: dict[str, Any],
    status: int,
) -> None:
    sent = {"data": b'{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}', **change}
    sent["headers"] = {**auth, "Content-Type": "application/json", **change.get("headers", {})}
    response = client.post(PATH, **sent)
    assert response.status_code == status
    assert response.get_json()["error"]["message"]
    assert taken == []
    assert services.online.calls == []


def test_other_methods_and_addresses_are_flasks(client: FlaskClient, auth: dict[str, str], taken: list[str]) -> None:
    assert client.get(PATH, headers=auth).status_code == 405
    assert client.post(f"{PATH}/", json=CHAT, headers=auth).status_code == 404
    assert taken == []


def test_a_database_that_is_away_is_told_by_flask(
    client: FlaskClient,
    services: MemoryServices,
    auth: dict[str, str],
    taken: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(key: str) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(services.accounts, "authenticate", away)
    response = client.post(PATH, json=CHAT, headers=auth)
    assert (response.status_code, response.get_json()["error"]["code"]) == (503, "store_unavailable")
    assert taken == []


def test_a_client_that_leaves_before_the_first_byte_frees_its_call(
    services: MemoryServices, auth: dict[str, str]
) -> None:
    from qosqueue_web.app import create_app

    client = create_app(cast(Any, services)).test_client()
    services.online.script = lambda request: answer_of("Hello")
    response = client.post(PATH, json={**CHAT, "stream": True}, headers=auth, buffered=False)
    response.close()
    assert services.online.calls[0].closed.is_set()

"""Does the document at /openapi.json say what the API does, also what the library that collects it leaves out?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.service.bodies import ChatBody
from qosqueue.service.outbound import PUBLIC_URL
from scripts.fuzz.models import naming_models
from tests.support.bulk import HOOK_URL
from tests.support.memory_services import MODEL, MemoryServices
from tests.support.openai_error import error_of

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    told: dict[str, Any] = client.get("/openapi.json").get_json()
    return told


@pytest.fixture
def operators_document(client: FlaskClient) -> dict[str, Any]:
    told: dict[str, Any] = client.get("/v1/admin/openapi.json").get_json()
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


@pytest.mark.parametrize("which", ["document", "operators_document"])
def test_every_link_leads_to_an_operation_that_takes_it(which: str, request: pytest.FixtureRequest) -> None:
    document = request.getfixturevalue(which)
    paths = {operation["operationId"]: path for _, path, operation in operations(document)}
    links = [
        link
        for _, _, operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) > 10
    for link in links:
        (place,) = link["parameters"]
        assert f"{{{place.removeprefix('path.')}}}" in paths[link["operationId"]]


def test_what_may_stream_says_so(document: dict[str, Any]) -> None:
    streamed = {
        path
        for _, path, operation in operations(document)
        if "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
    }
    assert streamed == {"/v1/chat/completions", "/v1/completions", "/v1/responses"}


def test_the_bytes_of_a_file_are_no_json(document: dict[str, Any]) -> None:
    answers = document["paths"]["/v1/files/{file_id}/content"]["get"]["responses"]
    assert list(answers["200"]["content"]) == ["application/octet-stream"]


def test_every_failure_of_the_admin_api_is_a_problem(operators_document: dict[str, Any]) -> None:
    failures = [
        (path, list(answer["content"]))
        for _, path, operation in operations(operators_document)
        for status, answer in operation["responses"].items()
        if status >= "400" and status != "414"  # the server's own, before there is a request
    ]
    assert failures
    assert [each for each in failures if each[1] != ["application/problem+json"]] == []


def test_bodies_are_told_exactly(document: dict[str, Any], operators_document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    (seed, _) = schemas["ChatBody"]["properties"]["seed"]["anyOf"]
    # As a float it would be a number that is refused.
    assert (seed["minimum"], seed["maximum"]) == (-(2**63), 2**63 - 1)
    assert "propertyNames" in schemas["ChatBody"]["properties"]["metadata"]["anyOf"][0]
    form = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["dependentRequired"]["expires_after[anchor]"] == ["expires_after[seconds]"]
    jobs = schemas["JobBody"]["anyOf"]
    assert [kind["properties"]["body"]["allOf"][0]["$ref"].rpartition("/")[2] for kind in jobs] == [
        *("ChatBody", "CompletionBody", "EmbeddingBody", "ResponseBody")
    ]
    tenant = operators_document["components"]["schemas"]["TenantChange"]["properties"]
    assert tenant["weight"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1000}
    assert "anyOf" not in tenant["name"], "null is no name"


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [("max_tokens", 5.0, 5), ("seed", -1.0, -1), ("n", 1.0, 1), ("latency_budget_ms", 80.0, 80)],
)
def test_a_whole_number_may_be_written_with_a_point(field: str, value: float, taken: int) -> None:
    read = getattr(ChatBody.model_validate({**CHAT, field: value}), field)
    assert (read, type(read)) == (taken, int)


@pytest.mark.parametrize("value", [5.5, True, "5", 1e300])
def test_what_is_no_whole_number_is_refused(client: FlaskClient, auth: dict[str, str], value: Any) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": value}, headers=auth)
    assert error_of(answer, 400)["param"] == "max_tokens"


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        (HOOK_URL, True),
        ("https://xn--bcher-kva.example:65535?a=b", True),
        ("https://a..example.com/", False),
        ("https://example.com:65536/", False),
        ("http://example.com/", False),
        ("https://localhost/", False),
        ("https://a@example.com/", False),
        ("https://example.com/#part", False),
        ("https://127.0.0.1/", False),
    ],
)
def test_the_documents_pattern_of_a_url_is_what_is_taken(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], url: str, fits: bool
) -> None:
    assert bool(re.search(PUBLIC_URL, url)) == fits
    sent = {"name": "n", "url": url, "event_types": ["batch.failed"]}
    answer = client.post("/v1/webhook_endpoints", json=sent, headers=auth)
    if fits:
        assert answer.status_code == 200, answer.text
    else:
        assert error_of(answer, 400)["param"] == "url"


def test_the_run_with_models_differs_in_them_alone(document: dict[str, Any]) -> None:
    named = naming_models(document)
    changed = {
        name
        for name, schema in document["components"]["schemas"].items()
        if named["components"]["schemas"][name] != schema
    }
    assert changed == {"ChatBody", "CompletionBody", "EmbeddingBody", "ResponseBody"}
    assert named["paths"] == document["paths"]

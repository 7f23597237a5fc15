"""Does /v1/embeddings take what OpenAI's takes, and name what it does not?"""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.service import answers
from qosqueue.service.online import Done, Started
from tests.support.memory_services import MODEL, MemoryServices
from tests.support.openai_error import error_of

PATH = "/v1/embeddings"


@pytest.mark.parametrize(
    ("given", "engine_gets", "tokens"),
    [
        ("Hello", ["Hello"], 2),
        (["Hello", "é"], ["Hello", "é"], 3),
        ([7, 8], [[7, 8]], 2),
        ([[7], [8, 9]], [[7], [8, 9]], 3),
        ([7.0, 8], [[7, 8]], 2),
        ([[7.0], [8, 9]], [[7], [8, 9]], 3),
    ],
)
def test_every_kind_of_input(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], given: Any, engine_gets: Any, tokens: int
) -> None:
    head = {"model": MODEL, "service_tier": "default"}
    services.online.script = lambda request: [
        Started("w", 1),
        Done("stop", 4, 0, answers.embedding_list(head, [[1.0, 0.5]], 4), 1, 2),
    ]
    sent = {"model": MODEL, "input": given, "encoding_format": "float", "dimensions": 384}
    answer = client.post(PATH, json=sent, headers=auth)
    assert answer.get_json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 0.5]}],
        "model": MODEL,
        "service_tier": "default",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    (request,) = services.online.requests
    assert (request.endpoint, request.prompt_tokens, request.max_output_tokens) == (PATH, tokens, 0)
    assert request.body == {"model": MODEL, "input": engine_gets, "encoding_format": "float", "dimensions": 384}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [True]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [[1], [-1]]}, "input[1][0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"stream": True}, "stream"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_field_is_named(client: FlaskClient, auth: dict[str, str], wrong: dict[str, Any], param: str) -> None:
    body = {"model": MODEL, "input": "a", **wrong}
    assert error_of(client.post(PATH, json=body, headers=auth), 400)["param"] == param
    job = client.post("/v1/jobs", json={"endpoint": PATH, "body": body}, headers=auth)
    assert error_of(job, 400)["param"] == f"body.{param}"

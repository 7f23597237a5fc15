"""Is every stream one that clients can read, whatever the model says, and whatever becomes of it?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qosqueue.client.calls import Events
from qosqueue.service.online import Failed, Queued, Started
from tests.support.memory_services import MODEL, MemoryServices, delta, done, key_for, memory_services

# What some reader takes for the end of a line, and what looks like a line of the stream's own.
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "data: [DONE]\n\n", "\x00", "é😀"]
TEXTS = st.lists(st.text(max_size=8) | st.sampled_from(BREAKS), max_size=6)
WAITS = st.lists(st.none() | st.integers(1, 9), max_size=4)
FAILURE = Failed({"status": 500, "code": "engine_failed", "message": "it\u2028broke\n", "param": None})
PATHS = {"/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]}, "/v1/completions": {"prompt": "Hi"}}


@pytest.fixture(scope="module")
def streaming() -> Iterator[tuple[FlaskClient, dict[str, str], MemoryServices]]:
    from qosqueue_web.app import create_app

    with TemporaryDirectory() as home:
        services = memory_services(Path(home))
        headers = {"Authorization": f"Bearer {key_for(services, 'a')}"}
        yield create_app(cast(Any, services)).test_client(), headers, services
        services.store.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(sorted(PATHS)), waits=WAITS, texts=TEXTS, fails=st.booleans(), usage=st.booleans())
@example(path="/v1/chat/completions", waits=[2, 1], texts=BREAKS, fails=False, usage=True)
@example(path="/v1/chat/completions", waits=[], texts=BREAKS, fails=True, usage=False)
def test_every_stream_is_whole_lines_of_json_and_ends_as_it_should(
    streaming: Any, path: str, waits: list[int | None], texts: list[str], fails: bool, usage: bool
) -> None:
    client, headers, services = streaming
    end = FAILURE if fails else done("".join(texts))
    services.online.script = lambda request: [
        *[Queued(position) for position in waits],
        Started("w1", 12),
        *map(delta, texts),
        end,
    ]
    sent = {"model": MODEL, "stream": True, "stream_options": {"include_usage": usage}, **PATHS[path]}
    answer = client.post(path, json=sent, headers=headers)
    if fails and not texts:
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (500, "engine_failed")
        return
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    text = answer.get_data(as_text=True)
    # Readers differ in what ends a line; to all of them it is the same lines.
    lines = text.split("\n")
    assert text.splitlines() == lines[:-1]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert all(not line or line.startswith((": ", "data: ")) for line in lines)
    chunks = [json.loads(each) for each in data if each != "[DONE]"]
    assert (data[-1] == "[DONE]") == (not fails)
    assert ("error" in chunks[-1]) == fails
    told = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    said = [choice.get("delta", {}).get("content") or choice.get("text") or "" for choice in told]
    assert "".join(said) == "".join(texts)


@pytest.mark.parametrize("broken", BREAKS)
def test_our_client_reads_what_the_api_wrote(streaming: Any, broken: str) -> None:
    client, headers, services = streaming
    services.online.script = lambda request: [Started("w1", 12), delta(broken), done(broken)]
    sent = {"model": MODEL, "stream": True, **PATHS["/v1/chat/completions"]}
    answer = client.post("/v1/chat/completions", json=sent, headers=headers)
    events = Events()
    pieces = [piece for line in answer.text.splitlines() for piece in events.of(line)]
    assert "".join(getattr(piece, "text", "") for piece in pieces) == broken
    events.check()

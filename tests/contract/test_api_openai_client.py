"""Does the unmodified OpenAI client work against the API?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from werkzeug.serving import make_server

from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Failed
from tests.support.memory_services import MODEL, MemoryServices, delta, key_for

HELLO: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def base_url(services: MemoryServices) -> Iterator[str]:
    from qosqueue_web.app import create_app

    server = make_server("127.0.0.1", 0, create_app(cast(Any, services)), threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def tenant(base_url: str, services: MemoryServices) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key=key_for(services, "a"), max_retries=0, timeout=10) as made:
        yield made


def test_chat(tenant: openai.OpenAI) -> None:
    answer = tenant.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9


def test_stream(tenant: openai.OpenAI, services: MemoryServices) -> None:
    with tenant.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{services.online.calls[0].id.removeprefix('job_')}"}


def test_latency_budget_as_extra_body(tenant: openai.OpenAI, services: MemoryServices) -> None:
    tenant.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"latency_budget_ms": 80})
    assert services.online.requests[0].latency_budget_ms == 80


def test_models(tenant: openai.OpenAI) -> None:
    assert [model.id for model in tenant.models.list()] == [MODEL]
    assert tenant.models.retrieve(MODEL).owned_by == "qosqueue"


def test_error_classes(tenant: openai.OpenAI, services: MemoryServices) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        tenant.with_options(api_key="qq_wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as unknown:
        tenant.chat.completions.create(model="never", messages=HELLO)
    assert unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as wrong:
        tenant.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"latency_budget_ms": "soon"})
    assert wrong.value.param == "latency_budget_ms"
    services.online.refuse_with = Refusal(429, "rate_limit_exceeded", "too many", retry_after_s=1)
    with pytest.raises(openai.RateLimitError):
        tenant.chat.completions.create(model=MODEL, messages=HELLO)


def test_failure_mid_stream(tenant: openai.OpenAI, services: MemoryServices) -> None:
    failed = Failed({"status": 500, "code": "engine_failed", "message": "it broke", "param": None, "type": None})
    services.online.script = lambda request: [delta("Hel"), failed]
    seen: list[str | None] = []
    with (
        tenant.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as stream,
        pytest.raises(openai.APIError, match="it broke"),
    ):
        seen.extend(chunk.choices[0].delta.content for chunk in stream)
    assert seen == ["Hel"]

"""Does the unmodified OpenAI client work against the API?"""

from __future__ import annotations

import base64
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from werkzeug.serving import make_server

from qosqueue.policy.refusal import Refusal
from qosqueue.service import answers
from qosqueue.service.online import Done, Failed
from tests.support.bulk import HOOK_URL, jsonl, line
from tests.support.memory_services import MODEL, MemoryServices, delta, key_for
from tests.support.scripts_of_answers import said, script

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


def test_completion(tenant: openai.OpenAI, services: MemoryServices) -> None:
    services.online.script = said(" upon", " a time")
    whole = tenant.completions.create(model=MODEL, prompt="Once", max_tokens=3)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (" upon a time", "length")
    services.online.script = said(" upon", " a time")
    with tenant.completions.create(model=MODEL, prompt="Once", stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == " upon a time"


def test_embeddings_in_the_clients_own_encoding(tenant: openai.OpenAI, services: MemoryServices) -> None:
    vector = struct.pack("<3f", 0.5, -0.25, 1)
    head = {"model": MODEL, "service_tier": "default"}
    body = answers.embedding_list(head, [base64.b64encode(vector).decode()], 2)
    services.online.script = lambda request: [Done("stop", 2, 0, body, 1, 2)]
    answer = tenant.embeddings.create(model=MODEL, input="Hi")
    assert services.online.requests[0].body["encoding_format"] == "base64"
    assert answer.data[0].embedding == [0.5, -0.25, 1]
    assert answer.usage.total_tokens == 2


def test_response_at_once_streamed_and_in_the_background(tenant: openai.OpenAI, services: MemoryServices) -> None:
    services.online.script = script("Hel", "lo")
    made = tenant.responses.create(model=MODEL, input="Hi", instructions="Be short.", metadata={"k": "v"})
    assert (made.output_text, made.status, made.metadata) == ("Hello", "completed", {"k": "v"})
    assert made.usage is not None
    assert made.usage.input_tokens_details.cached_tokens == 0
    # What it has answered can be sent back as a part of the next conversation.
    turns: Any = [{"role": "user", "content": "Hi"}, *[item.model_dump() for item in made.output]]
    services.online.script = script("Hel", "lo")
    with tenant.responses.stream(model=MODEL, input=turns) as stream:
        assert "".join(event.delta for event in stream if event.type == "response.output_text.delta") == "Hello"
        assert stream.get_final_response().output_text == "Hello"

    waiting = tenant.responses.create(model=MODEL, input="Hi", background=True)
    assert (waiting.status, waiting.background) == ("queued", True)
    assert tenant.responses.retrieve(waiting.id).status == "queued"
    assert tenant.responses.cancel(waiting.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        tenant.responses.retrieve("resp_" + "0" * 24)
    with pytest.raises(openai.BadRequestError) as refused:
        tenant.responses.create(model=MODEL, input="Hi", background=True, stream=True)
    assert refused.value.param == "stream"


def test_service_tier(tenant: openai.OpenAI) -> None:
    with tenant.chat.completions.create(model=MODEL, messages=HELLO, service_tier="flex", stream=True) as stream:
        assert {chunk.service_tier for chunk in stream} == {"flex"}


def test_a_key_that_is_used_for_something_else(tenant: openai.OpenAI) -> None:
    keyed = {"Idempotency-Key": "k"}
    first = tenant.responses.create(model=MODEL, input="Hi", background=True, extra_headers=keyed)
    again = tenant.responses.create(model=MODEL, input="Hi", background=True, extra_headers=keyed)
    assert first.id == again.id
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        tenant.responses.create(model=MODEL, input="Ho", background=True, extra_headers=keyed)
    assert refused.value.code == "idempotency_key_reused"


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


def test_files(tenant: openai.OpenAI, tmp_path: Path) -> None:
    source = tmp_path / "requests.jsonl"
    source.write_bytes(jsonl([line("one")]))
    with source.open("rb") as opened:
        file = tenant.files.create(file=opened, purpose="batch")
    assert (file.purpose, file.bytes, file.filename) == ("batch", source.stat().st_size, "requests.jsonl")
    for _ in range(3):
        tenant.files.create(file=source, purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200})
    assert len({each.id for each in tenant.files.list(limit=2)}) == 4, "the client turns the pages"
    assert tenant.files.retrieve(file.id) == file
    assert tenant.files.content(file.id).read() == source.read_bytes()
    assert tenant.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        tenant.files.retrieve(file.id)
    assert gone.value.code == "file_not_found"


def test_batches(tenant: openai.OpenAI) -> None:
    file = tenant.files.create(file=("in.jsonl", jsonl([line("one")])), purpose="batch")
    for _ in range(3):
        batch = tenant.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
        )
    assert (batch.status, batch.metadata, batch.request_counts and batch.request_counts.total) == (
        "validating",
        {"k": "v"},
        0,
    )
    assert tenant.batches.retrieve(batch.id) == batch
    assert len({each.id for each in tenant.batches.list(limit=1)}) == 3
    assert tenant.batches.cancel(batch.id).status == "cancelling"


def test_webhook_endpoints(tenant: openai.OpenAI) -> None:
    made = tenant.webhooks.create(name="mine", url=HOOK_URL, event_types=["batch.completed", "response.failed"])
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint == f"whsec_…{made.signing_secret[-4:]}"
    (listed,) = tenant.webhooks.list()
    assert (listed.id, listed.url, listed.event_types) == (made.id, HOOK_URL, ["batch.completed", "response.failed"])
    assert "signing_secret" not in listed.to_dict()
    changed = tenant.webhooks.update(made.id, name="other", event_types=["batch.failed"])
    assert (changed.name, changed.event_types, changed.url) == ("other", ["batch.failed"], HOOK_URL)
    assert tenant.webhooks.rotate_secret(made.id).signing_secret != made.signing_secret
    with pytest.raises(openai.BadRequestError) as private:
        tenant.webhooks.create(name="x", url="https://127.1/", event_types=["batch.failed"])
    assert private.value.param == "url"
    assert tenant.webhooks.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        tenant.webhooks.retrieve(made.id)


def test_a_job_names_a_webhook_of_its_tenant(tenant: openai.OpenAI, services: MemoryServices) -> None:
    made = tenant.webhooks.create(name="mine", url=HOOK_URL, event_types=["batch.completed"])
    chat = {"model": MODEL, "messages": HELLO}
    for name in (made.id, HOOK_URL):
        tenant.post("/jobs", body={"body": chat, "webhook": name}, cast_to=object)
        assert services.jobs.requests[-1].webhook == made.id
    for unknown in ("whe_000000000000000000000000", "https://elsewhere.example.com/", "\u0000"):
        with pytest.raises(openai.NotFoundError) as wrong:
            tenant.post("/jobs", body={"body": chat, "webhook": unknown}, cast_to=object)
        assert wrong.value.param == "webhook"
    with tenant.with_options(api_key=key_for(services, "b")) as other, pytest.raises(openai.NotFoundError):
        other.post("/jobs", body={"body": chat, "webhook": HOOK_URL}, cast_to=object)

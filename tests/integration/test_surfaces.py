"""Does each endpoint work over the whole road, with the unmodified OpenAI client and a worker of two models?"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from werkzeug.serving import make_server

from qosqueue.policy.terms import ServiceTier, TaskType
from qosqueue.service.answers import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from qosqueue.service.online import OnlineCall
from qosqueue_web.app import create_app
from tests.support.eventually import eventually
from tests.support.road import Road
from tests.support.tiny_bert import LONGEST, WIDTH, write_tiny_bert

pytestmark = pytest.mark.timeout(120)
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
SLOW = {"step_ms": 50, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 4_000}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "sim", "messages": MESSAGES},
    COMPLETIONS: {"model": "sim", "prompt": "Hi"},
    EMBEDDINGS: {"model": "vectors", "input": ["word0", "word1 word2"]},
    RESPONSES: {"model": "sim", "input": "Hi"},
}


@pytest.fixture
def client(road: Road) -> Iterator[openai.OpenAI]:
    road.model()
    road.model("slow", options=SLOW)
    road.model(
        "vectors",
        "sentence-bert",
        context_tokens=LONGEST,
        options={"path": str(write_tiny_bert(road.settings.home / "bert"))},
    )
    road.worker("w1")
    server = make_server("127.0.0.1", 0, create_app(road.services), threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    key = road.services.accounts.create_key("acme", actor="test").key
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key=key, max_retries=0) as made:
        yield made
    server.shutdown()
    serving.join()
    server.server_close()


def test_the_openai_clients_own_calls(client: openai.OpenAI, road: Road) -> None:
    chat = client.chat.completions.create(model="sim", messages=MESSAGES, service_tier="priority")
    assert (chat.object, chat.service_tier) == ("chat.completion", "priority")
    text = client.completions.create(model="sim", prompt="Hi", max_tokens=3, temperature=0)
    assert (text.object, text.id[:5], text.choices[0].finish_reason) == ("text_completion", "cmpl-", "length")
    assert text.usage is not None
    assert text.usage.completion_tokens == 3
    with client.completions.create(model="sim", prompt="Hi", max_tokens=3, temperature=0, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == text.choices[0].text

    vectors = client.embeddings.create(model="vectors", input=["word0", "word1 word2"])
    as_floats = client.embeddings.create(model="vectors", input=[[4], [5, 6]], encoding_format="float")
    assert [len(each.embedding) for each in vectors.data] == [WIDTH, WIDTH]
    assert [each.embedding for each in vectors.data] == [pytest.approx(each.embedding) for each in as_floats.data]
    assert vectors.usage.prompt_tokens == as_floats.usage.total_tokens == 3 + 4
    with pytest.raises(openai.BadRequestError, match="serves /v1/embeddings") as refused:
        client.chat.completions.create(model="vectors", messages=MESSAGES)
    assert refused.value.param == "model"

    made = client.responses.create(model="sim", input="Hi", max_output_tokens=3, temperature=0)
    assert (made.status, made.output_text != "") == ("incomplete", True)
    # Its row is there as soon as its answer is.
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    with client.responses.stream(model="sim", input="Hi", temperature=0) as events:
        final = events.get_final_response()
    assert (final.status, client.responses.retrieve(final.id).output_text) == ("completed", final.output_text)

    waiting = client.responses.create(model="sim", input="Hi", background=True, metadata={"k": "v"})
    assert waiting.status in ("queued", "in_progress", "completed")
    eventually(lambda: client.responses.retrieve(waiting.id).status == "completed", 20)
    assert client.responses.retrieve(waiting.id).metadata == {"k": "v"}
    long = client.responses.create(model="slow", input="Hi", background=True, max_output_tokens=4_000)
    eventually(lambda: client.responses.retrieve(long.id).status == "in_progress", 20)
    client.responses.cancel(long.id)
    eventually(lambda: client.responses.retrieve(long.id).status == "cancelled", 20)
    assert road.in_flight() == 0


def test_flex_is_shed_where_others_wait_already(road: Road) -> None:
    road.model()
    road.model("idle")
    flex = {"service_tier": ServiceTier.FLEX}
    alone = road.call(**flex)
    for model, admitted in (("sim", False), ("idle", True)):
        call = road.services.online.start(road.tenant, road.request(TaskType.ONLINE, model=model, **flex))
        assert isinstance(call, OnlineCall) == admitted
        if isinstance(call, OnlineCall):
            call.close()
        else:
            assert (call.status, call.code, call.param) == (429, "resource_unavailable", "service_tier")
            assert call.retry_after_s is not None
    road.call().close()  # the default tier waits
    job = road.submit(**flex)  # and so does what nobody waits for
    assert (job.details["service_tier"], job.priority) == ("flex", 2)
    road.services.jobs.cancel(road.tenant.id, job.id)
    alone.close()
    road.call(**flex).close()


def test_each_endpoint_as_a_batch_has_the_answers_of_its_own_route(client: openai.OpenAI, road: Road) -> None:
    batches = {}
    for endpoint, body in BODIES.items():
        line = {"custom_id": endpoint, "method": "POST", "url": endpoint, "body": body}
        file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
        given: Any = endpoint
        batch = client.batches.create(input_file_id=file.id, endpoint=given, completion_window="24h")
        batches[endpoint] = batch.id

    def all_ended() -> bool:
        road.services.batch_feed.run(5)
        return {client.batches.retrieve(each).status for each in batches.values()} == {"completed"}

    eventually(all_ended, 40)
    for endpoint, batch_id in batches.items():
        output = client.batches.retrieve(batch_id).output_file_id
        assert output is not None
        told = json.loads(client.files.content(output).text)
        at_once: Any = client.post(endpoint.removeprefix("/v1"), body=BODIES[endpoint], cast_to=object)
        assert (told["custom_id"], told["response"]["status_code"]) == (endpoint, 200)
        answer = told["response"]["body"]
        assert (answer["object"], answer["model"], set(answer)) == (at_once["object"], at_once["model"], set(at_once))
        if endpoint == RESPONSES:
            assert client.responses.retrieve(answer["id"]).to_dict()["output"] == answer["output"]


@pytest.mark.parametrize("endpoint", BODIES)
def test_each_endpoint_as_a_job_has_the_result_of_its_own_route(client: openai.OpenAI, endpoint: str) -> None:
    sent = {"endpoint": endpoint, "body": BODIES[endpoint], "service_tier": "flex"}
    job: Any = client.post("/jobs", body=sent, cast_to=object)
    ended: Any = client.get(f"/jobs/{job['id']}?wait=30", cast_to=object)
    assert (ended["status"], ended["service_tier"]) == ("succeeded", "flex")
    at_once: Any = client.post(endpoint.removeprefix("/v1"), body=BODIES[endpoint], cast_to=object)
    assert ended["result"]["service_tier"] == "flex"
    own = {"id", "created", "created_at", "service_tier", "output"}
    assert {name: told for name, told in ended["result"].items() if name not in own} == {
        name: told for name, told in at_once.items() if name not in own
    }
    assert set(ended["result"]) == set(at_once)

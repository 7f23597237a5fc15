"""Do both forms of the Python client do what they say, against the real API over HTTP?"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isasyncgen, isgenerator
from typing import Any, Protocol

import httpx2
import pytest

from qosqueue.client import ApiError, AsyncClient, Client, Job, JobNotDone, Piece, Position
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Failed, Queued
from scripts.generated_block import ROOT
from tests.support.http_server import serving
from tests.support.memory_services import MODEL, MemoryServices, delta, done, key_for

HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


class Ask(Protocol):
    """Call a method of the client by its name; of one that yields, everything that it yielded."""

    def __call__(self, method: str, *given: Any, **named: Any) -> Any: ...


def asker(form: str, url: str, key: str, transport: Any = None) -> tuple[Ask, Callable[[], None]]:
    """One form of the client, called the same way as the other; and what closes it."""
    if form == "sync":
        client = Client(url, key, transport=transport)

        def ask(method: str, *given: Any, **named: Any) -> Any:
            answer = getattr(client, method)(*given, **named)
            return list(answer) if isgenerator(answer) else answer

        return ask, client.close
    runner = asyncio.Runner()
    other = AsyncClient(url, key, transport=transport)

    async def collected(events: AsyncIterator[Any]) -> list[Any]:
        return [event async for event in events]

    def ask_async(method: str, *given: Any, **named: Any) -> Any:
        answer = getattr(other, method)(*given, **named)
        return runner.run(collected(answer) if isasyncgen(answer) else answer)

    def close() -> None:
        runner.run(other.close())
        runner.close()

    return ask_async, close


@pytest.fixture
def url(services: MemoryServices) -> Iterator[str]:
    with serving(services) as at:
        yield at


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(form: str, url: str, services: MemoryServices) -> Iterator[Ask]:
    ask, close = asker(form, url, key_for(services, "a"))
    yield ask
    close()


def finish(services: MemoryServices, job_id: str) -> None:
    services.jobs.change(job_id, status=JobStatus.SUCCEEDED, result=done("Hello there").result)


def test_a_job_is_submitted_and_its_answer_is_waited_for(ask: Ask, services: MemoryServices) -> None:
    job: Job = ask("submit", HELLO, task_type="batch", latency_budget_ms=4_000, metadata={"run": "7"})
    assert not job.done
    assert job.text is None
    assert services.jobs.requests[0].latency_budget_ms == 4_000
    assert job.raw["metadata"] == {"run": "7"}
    later = threading.Timer(0.1, finish, (services, job.id))
    later.start()
    ended: Job = ask("wait", job.id, 30.0)
    later.join()
    assert (ended.status, ended.text) == ("succeeded", "Hello there")
    assert ask("job", job.id) == ended


def test_a_wait_that_is_too_short_tells_how_the_job_stands(ask: Ask) -> None:
    job = ask("submit", HELLO)
    with pytest.raises(JobNotDone, match=job.id) as over:
        ask("wait", job.id, 0.05)
    assert over.value.job.status == job.status


def test_a_job_is_taken_back(ask: Ask) -> None:
    job = ask("submit", HELLO)
    assert ask("cancel", job.id).status == "cancelled"


def test_all_jobs_are_listed_over_several_pages(ask: Ask) -> None:
    made = [ask("submit", HELLO).id for _ in range(5)]
    assert [job.id for job in ask("jobs", 2)] == made[::-1]


def test_a_chat_is_answered_whole(ask: Ask, services: MemoryServices) -> None:
    answer = ask("chat", HELLO, latency_budget_ms=80)
    assert answer["choices"][0]["message"]["content"] == "Hello there"
    assert services.online.requests[0].latency_budget_ms == 80


def test_a_stream_tells_the_place_in_the_queue_and_then_the_answer(ask: Ask, services: MemoryServices) -> None:
    services.online.script = lambda request: [Queued(3), Queued(1), delta("Hello"), delta(" you"), done("Hello you")]
    seen = ask("stream", HELLO)
    assert [event.position for event in seen if isinstance(event, Position)] == [3, 1]
    assert "".join(event.text for event in seen if isinstance(event, Piece)) == "Hello you"


def test_a_failure_inside_a_stream_is_raised(ask: Ask, services: MemoryServices) -> None:
    error = {"status": 500, "code": "engine_failed", "message": "The model failed.", "param": None}
    services.online.script = lambda request: [delta("Hel"), Failed(error)]
    with pytest.raises(ApiError, match="The model failed") as failed:
        ask("stream", HELLO)
    assert failed.value.code == "engine_failed"


def test_a_refused_stream_is_an_error_with_its_field(ask: Ask) -> None:
    with pytest.raises(ApiError) as refused:
        ask("stream", HELLO | {"temperature": 9})
    assert (refused.value.status, refused.value.param) == (400, "temperature")


def test_an_unknown_job_and_a_wrong_key_are_errors_with_a_code(
    ask: Ask, form: str, url: str, services: MemoryServices
) -> None:
    with pytest.raises(ApiError) as unknown:
        ask("job", "job_never")
    assert (unknown.value.status, unknown.value.code) == (404, "job_not_found")
    stranger, close = asker(form, url, "qq_wrong")
    with pytest.raises(ApiError) as refused:
        stranger("submit", HELLO)
    close()
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_a_refusal_that_names_a_time_is_tried_again(ask: Ask, services: MemoryServices) -> None:
    refused = Refusal(429, "rate_limit_exceeded", "too many", retry_after_s=1)
    services.online.refuse_with = refused
    allow = threading.Timer(0.3, setattr, (services.online, "refuse_with", None))
    allow.start()
    assert ask("chat", HELLO)["choices"]
    allow.join()
    services.jobs.refuse_with = Refusal(429, "insufficient_quota", "spent", retry_after_s=3_600)
    with pytest.raises(ApiError) as spent:
        ask("submit", HELLO)
    assert (spent.value.code, spent.value.retry_after_s) == ("insufficient_quota", 3_600)


@pytest.mark.parametrize(("method", "tries"), [("submit", 3), ("chat", 1)])
def test_a_lost_connection_is_tried_again_only_where_that_is_safe(form: str, method: str, tries: int) -> None:
    seen: list[httpx2.Request] = []

    def lose(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        raise httpx2.ReadError("connection reset")

    ask, close = asker(form, "http://qosqueue.invalid", "qq_key", httpx2.MockTransport(lose))
    with pytest.raises(ApiError, match="connection reset") as lost:
        ask(method, HELLO)
    close()
    assert lost.value.status == 0
    assert len(seen) == tries
    # It is the same submission each time, and the server can know.
    assert len({request.headers.get("Idempotency-Key") for request in seen}) == 1


IN_PROGRESS = {"message": "being answered", "type": "invalid_request_error", "param": None}


@pytest.mark.parametrize(
    ("code", "answered", "tries"),
    [("idempotency_in_progress", True, 2), ("idempotency_in_progress", False, 3), ("conflict", True, 1)],
)
def test_a_submit_whose_first_try_is_still_being_answered_is_asked_for_again(
    form: str, services: MemoryServices, url: str, code: str, answered: bool, tries: int
) -> None:
    made, close_maker = asker(form, url, key_for(services, "a"))
    job: Job = made("submit", HELLO)
    close_maker()
    seen: list[httpx2.Request] = []

    def in_progress(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if answered and len(seen) == 2:
            return httpx2.Response(202, json=job.raw)
        return httpx2.Response(409, headers={"Retry-After": "0"}, json={"error": {**IN_PROGRESS, "code": code}})

    ask, close = asker(form, "http://qosqueue.invalid", "qq_key", httpx2.MockTransport(in_progress))
    if (answered, tries) == (True, 2):
        assert ask("submit", HELLO) == job
    else:
        with pytest.raises(ApiError) as refused:
            ask("submit", HELLO)
        assert (refused.value.status, refused.value.code) == (409, code)
    close()
    assert len(seen) == tries
    # Each try is the same request, so the server can find the answer of the first.
    assert len({(request.headers["Idempotency-Key"], request.content) for request in seen}) == 1


def test_a_stream_that_is_cut_off_is_no_answer(form: str) -> None:
    def cut(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, text='data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n')

    ask, close = asker(form, "http://qosqueue.invalid", "qq_key", httpx2.MockTransport(cut))
    with pytest.raises(ApiError, match="cut off"):
        ask("stream", HELLO)
    close()


def test_an_answer_that_is_not_the_api_s_is_told_as_it_is(form: str) -> None:
    def proxy(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404, text="<h1>Not here</h1>")

    ask, close = asker(form, "http://qosqueue.invalid", "qq_key", httpx2.MockTransport(proxy))
    with pytest.raises(ApiError, match="HTTP 404: <h1>Not here</h1>"):
        ask("job", "job_1")
    close()


def test_the_example_of_the_page_works(
    url: str, services: MemoryServices, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/howto/use-the-python-client.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("KEY", key_for(services, "a"))
    submit = services.jobs.submit

    def answered_at_once(tenant: Any, request: Any) -> Any:
        job = submit(tenant, request)
        finish(services, job.id)
        return job

    monkeypatch.setattr(services.jobs, "submit", answered_at_once)
    services.online.script = lambda request: [Queued(2), delta("Paris"), done("Paris")]
    exec(example.replace("http://127.0.0.1:8080", url).replace("smollm2", MODEL), {})
    assert capsys.readouterr().out == "Hello there\n(place 2) Paris"

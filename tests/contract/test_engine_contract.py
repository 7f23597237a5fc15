"""Does every engine keep the promises of `Engine`? One suite, run on llama.cpp (a tiny model) and the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest

from qosqueue.errors import EngineError
from qosqueue.policy.terms import WeightClass
from qosqueue.store.records import Model
from qosqueue_workers.engines.base import Choices, Completion, Emit, Engine, EngineRefused, EngineRequest
from qosqueue_workers.engines.registry import make_engine
from tests.support.eventually import eventually
from tests.support.tiny_gguf import write_tiny_gguf

WITHIN_S = 20.0
CONTEXT = 512
SLOTS = 2
ENDLESS = 400
CHARACTERS_PER_TOKEN = {"llama.cpp": 1, "simulated": 9}
Make = Callable[..., Engine]


def model(engine: str, options: dict[str, Any], slots: int = SLOTS, context_tokens: int = CONTEXT) -> Model:
    return Model("m", engine, WeightClass.LIGHT, 1, context_tokens, slots, options, True, 0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(params=["llama.cpp", "simulated"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str, tiny: Path) -> Iterator[Make]:
    """`make(slots=…) -> Engine`, loaded; closed after the test."""
    made: list[Engine] = []
    quick = {"step_ms": 1, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 2 * ENDLESS}
    options: dict[str, dict[str, Any]] = {"llama.cpp": {"path": str(tiny), "threads": 1}, "simulated": quick}

    def make_one(slots: int = SLOTS) -> Engine:
        made.append(make_engine(model(kind, options[kind], slots)))
        made[-1].load()
        return made[-1]

    yield make_one
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make: Make) -> Engine:
    return make()


def ask(name: str = "r1", content: str = "Hello", **fields: Any) -> EngineRequest:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0} | fields
    return EngineRequest(name, "/v1/chat/completions", body)


def ignore(_choices: Choices) -> None:
    """Takes chunks of which nothing is asked."""


class Held:
    """A submitted request that is held at its first chunk until it is let go."""

    def __init__(self, engine: Engine, name: str, **fields: Any) -> None:
        self.started, self.released = Event(), Event()
        self.outcome: Future[Completion] = Future()
        self.name = name
        engine.submit(ask(name, **({"max_tokens": ENDLESS} | fields)), self._emit, self._done)

    def _emit(self, _choices: Choices) -> None:
        self.started.set()
        assert self.released.wait(WITHIN_S)

    def _done(self, outcome: Completion | BaseException) -> None:
        if isinstance(outcome, BaseException):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


def test_an_engine_serves_only_once_it_is_loaded(kind: str, tiny: Path) -> None:
    engine = make_engine(model(kind, {"path": str(tiny)} if kind == "llama.cpp" else {}))
    assert not engine.health().ok
    with pytest.raises(EngineError, match="not loaded"):
        engine.stream(ask(), ignore)
    engine.load()
    engine.load()
    assert engine.health().ok
    engine.close()


def test_a_simulated_engine_says_that_it_is_one(engine: Engine, kind: str) -> None:
    assert ("simulated" in engine.health().detail) == (kind == "simulated")
    assert ("Simulated" in type(engine).__name__) == (kind == "simulated")


def test_chunks_make_up_the_completion_and_tokens_are_counted(engine: Engine, kind: str) -> None:
    chunks: list[Choices] = []
    completion = engine.stream(ask(max_tokens=12), chunks.append)
    assert chunks[0][0]["delta"]["role"] == "assistant"
    said = [choices[0]["delta"].get("content") or "" for choices in chunks]
    assert "".join(said) == completion.text
    assert sum(map(bool, said)) == completion.completion_tokens == 12
    assert len(completion.text) == 12 * CHARACTERS_PER_TOKEN[kind]
    assert [choices[0]["finish_reason"] for choices in chunks[-2:]] == [None, "length"]
    assert completion.finish_reason == "length"
    longer = engine.stream(ask("r2", "Hello" + "x" * 40), ignore)
    assert longer.prompt_tokens - completion.prompt_tokens == (40 if kind == "llama.cpp" else 10)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_answer_has_no_more_tokens_than_asked_for(engine: Engine, field: str) -> None:
    limits: dict[str, Any] = {"max_tokens": None, field: 3}
    completion = engine.stream(ask(**limits), ignore)
    assert (completion.completion_tokens, completion.finish_reason) == (3, "length")


def test_a_stop_string_ends_the_answer_and_is_not_in_it(engine: Engine) -> None:
    whole = engine.stream(ask(max_tokens=20), ignore).text
    stop = whole[len(whole) // 2 :][:3]
    chunks: list[Choices] = []
    completion = engine.stream(ask("r2", max_tokens=20, stop=[stop]), chunks.append)
    assert completion.text == whole[: whole.index(stop)]
    assert "".join(choices[0]["delta"].get("content") or "" for choices in chunks) == completion.text
    assert completion.finish_reason == "stop"


def test_the_same_request_gives_the_same_text(engine: Engine) -> None:
    first, second = (engine.stream(ask(name, seed=7, max_tokens=30), ignore) for name in ("r1", "r2"))
    assert first == second
    assert engine.stream(ask("r3", "Bye", seed=7, max_tokens=30), ignore).text != first.text


def test_a_running_request_is_cancelled_within_a_step(engine: Engine) -> None:
    held = Held(engine, "r1")
    assert held.started.wait(WITHIN_S)
    assert engine.cancel("r1")
    held.released.set()
    completion = held.outcome.result(WITHIN_S)
    assert completion.finish_reason == "cancelled"
    assert completion.completion_tokens <= 2
    assert engine.busy() == 0
    assert engine.stream(ask("r2"), ignore).finish_reason == "length"


def test_a_waiting_request_is_cancelled_at_once(make: Make) -> None:
    engine = make(slots=1)
    held, waiting, next_one = (Held(engine, name) for name in ("r1", "r2", "r3"))
    assert held.started.wait(WITHIN_S)
    assert engine.cancel("r2")
    assert waiting.outcome.result(0) == Completion("", "cancelled", 0, 0)
    assert not waiting.started.is_set()
    assert engine.cancel("r1")
    held.released.set()
    assert next_one.started.wait(WITHIN_S)
    next_one.released.set()


def test_a_stream_that_waits_for_a_slot_is_cancelled_at_once(make: Make) -> None:
    engine = make(slots=1)
    held = Held(engine, "r1")
    assert held.started.wait(WITHIN_S)
    ended: Future[Completion] = Future()
    waiter = Thread(target=lambda: ended.set_result(engine.stream(ask("r2"), ignore)))
    waiter.start()
    eventually(lambda: engine.cancel("r2"), WITHIN_S)
    assert ended.result(WITHIN_S).finish_reason == "cancelled"
    waiter.join(WITHIN_S)
    held.released.set()
    assert held.outcome.result(WITHIN_S).finish_reason == "length"


def test_cancelling_what_is_not_there_says_so(engine: Engine) -> None:
    assert not engine.cancel("nobody")
    engine.stream(ask(), ignore)
    assert not engine.cancel("r1")


def test_as_many_run_at_once_as_there_are_slots_in_the_order_they_came(engine: Engine) -> None:
    requests = [Held(engine, f"r{number}", max_tokens=4) for number in range(5)]
    for number, request in enumerate(requests):
        assert request.started.wait(WITHIN_S)
        running = requests[number : number + SLOTS]
        for other in running:
            assert other.started.wait(WITHIN_S)
        assert engine.busy() == len(running)
        if number + SLOTS < len(requests):
            assert not requests[number + SLOTS].started.wait(0.05)
        request.released.set()
        assert request.outcome.result(WITHIN_S).completion_tokens == 4
    assert engine.busy() == 0


def test_the_same_id_twice_is_an_error(engine: Engine) -> None:
    held = Held(engine, "r1", max_tokens=2)
    with pytest.raises(EngineError, match="already"):
        engine.stream(ask("r1"), ignore)
    held.released.set()
    assert held.outcome.result(WITHIN_S).finish_reason == "length"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"content": "word " * 2000}, "context_length_exceeded", "messages"),
        ({"n": 2}, "invalid_value", "n"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "invalid_value", "messages[0].content"),
    ],
)
def test_a_request_at_fault_is_refused_and_the_engine_stays_well(
    engine: Engine, fields: dict[str, Any], code: str, param: str
) -> None:
    chunks: list[Choices] = []
    with pytest.raises(EngineRefused) as refused:
        engine.stream(ask(**fields), chunks.append)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, param)
    assert not chunks
    assert engine.health().ok
    assert engine.busy() == 0


def test_another_endpoint_is_refused_as_a_wrong_choice_of_the_model(engine: Engine) -> None:
    with pytest.raises(EngineRefused, match="not /v1/embeddings") as refused:
        engine.stream(EngineRequest("r1", "/v1/embeddings", {"input": "a"}), ignore)
    assert (refused.value.code, refused.value.param) == ("invalid_value", "model")


def test_a_completion_continues_its_prompt_in_the_form_of_a_chat(engine: Engine, kind: str) -> None:
    def complete(name: str, prompt: str, **fields: Any) -> tuple[Completion, list[Choices]]:
        chunks: list[Choices] = []
        body = {"prompt": prompt, "max_tokens": 12, "temperature": 0} | fields
        return engine.stream(EngineRequest(name, "/v1/completions", body), chunks.append), chunks

    whole, chunks = complete("r1", "Hello")
    said = [choices[0]["delta"].get("content") or "" for choices in chunks]
    assert "".join(said) == whole.text
    assert sum(map(bool, said)) == whole.completion_tokens == 12
    assert (chunks[-1][0]["finish_reason"], whole.finish_reason) == ("length", "length")
    assert complete("r2", "Hello" + "x" * 40)[0].prompt_tokens - whole.prompt_tokens == (
        40 if kind == "llama.cpp" else 10
    )
    stop = whole.text[len(whole.text) // 2 :][:3]
    stopped, _ = complete("r3", "Hello", stop=[stop])
    assert (stopped.text, stopped.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
    for prompt, code in (("x" * 5000, "context_length_exceeded"), ("", "invalid_value")):
        with pytest.raises(EngineRefused) as refused:
            complete("r4", prompt)
        assert (refused.value.code, refused.value.param) == (code, "prompt")


class Unwell(Exception):
    """What the receiver of chunks raises."""


def raise_at(count: int) -> Emit:
    seen = [0]

    def emit(_choices: Choices) -> None:
        seen[0] += 1
        if seen[0] == count:
            raise Unwell

    return emit


def test_what_emit_raises_reaches_the_caller_and_frees_the_slot(make: Make) -> None:
    engine = make(slots=1)
    with pytest.raises(Unwell):
        engine.stream(ask(max_tokens=ENDLESS), raise_at(3))
    ended: Future[Completion | BaseException] = Future()
    engine.submit(ask(), raise_at(1), ended.set_result)
    assert isinstance(ended.result(WITHIN_S), Unwell)
    assert engine.busy() == 0
    assert engine.health().ok
    assert engine.stream(ask(), ignore).finish_reason == "length"


def test_done_is_called_once_and_after_the_slot_is_free(engine: Engine) -> None:
    told: list[int] = []
    lock, all_told = Lock(), Event()

    def done(_outcome: Completion | BaseException) -> None:
        with lock:
            told.append(engine.busy())
            if len(told) == SLOTS:
                all_told.set()

    for number in range(SLOTS):
        engine.submit(ask(f"r{number}"), ignore, done)
    assert all_told.wait(WITHIN_S)
    assert max(told) < SLOTS
    engine.close()
    assert len(told) == SLOTS


def test_closing_stops_all_and_says_that_it_was_not_finished(make: Make) -> None:
    engine = make(slots=1)
    running, waiting = Held(engine, "r1"), Held(engine, "r2")
    assert running.started.wait(WITHIN_S)
    closing = Thread(target=engine.close)
    closing.start()
    assert isinstance(waiting.outcome.exception(WITHIN_S), EngineError)
    running.released.set()
    assert isinstance(running.outcome.exception(WITHIN_S), EngineError)
    closing.join(WITHIN_S)
    engine.close()
    assert not engine.health().ok
    for refused in (lambda: engine.stream(ask(), ignore), lambda: engine.submit(ask(), ignore, print), engine.load):
        with pytest.raises(EngineError, match="closed"):
            refused()


def test_capacity_tells_what_was_set_and_can_be_asked_before_loading(kind: str, tiny: Path) -> None:
    engine = make_engine(model(kind, {"path": str(tiny)} if kind == "llama.cpp" else {}, slots=3))
    capacity = engine.capacity()
    assert (capacity.slots, capacity.context_tokens) == (3, CONTEXT)
    assert capacity.memory_bytes is not None
    engine.close()


def test_an_unknown_option_and_an_unknown_engine_are_named(kind: str) -> None:
    with pytest.raises(EngineError, match="wings"):
        make_engine(model(kind, {"wings": 2}))
    with pytest.raises(EngineError, match=r"'steam'.*llama\.cpp, sentence-bert, simulated"):
        make_engine(model("steam", {}))

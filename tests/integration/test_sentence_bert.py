"""Are the vectors of a sentence model those of its own library, and is every input counted, checked and batched?"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from qosqueue.errors import EngineError
from qosqueue.policy.terms import WeightClass
from qosqueue.store.records import Model
from qosqueue_workers.answers import answer_body
from qosqueue_workers.engines.base import Completion, EngineRefused, EngineRequest
from qosqueue_workers.engines.sentence_bert import SentenceBertEngine
from tests.support.tiny_bert import LONGEST, MARKS, VOCABULARY, WIDTH, WORDS, write_tiny_bert

REFERENCE = Path(__file__).parents[1] / "support" / "minilm_reference.json"


def engine_for(context_tokens: int = LONGEST, slots: int = 4, **options: Any) -> SentenceBertEngine:
    return SentenceBertEngine(
        Model("m", "sentence-bert", WeightClass.LIGHT, 1, context_tokens, slots, options, True, 0)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def engine(folder: Path) -> Iterator[SentenceBertEngine]:
    made = engine_for(path=str(folder))
    made.load()
    yield made
    made.close()


def embed(engine: SentenceBertEngine, given: Any, name: str = "r1", **fields: Any) -> Completion:
    body = {"input": given, **fields}
    return engine.stream(EngineRequest(name, "/v1/embeddings", body), lambda _choices: None)


def vectors(completion: Completion) -> Any:
    return np.array([np.frombuffer(each, "<f4") for each in completion.vectors])


def test_the_vectors_are_those_of_the_models_own_library() -> None:
    told = json.loads(REFERENCE.read_text("utf-8"))
    engine = engine_for(256)
    engine.load()
    completion = embed(engine, told["texts"])
    engine.close()
    assert completion.prompt_tokens == told["tokens"]
    np.testing.assert_allclose(vectors(completion), np.array(told["vectors"]), atol=2e-6)


def test_a_text_has_the_same_vector_alone_and_among_others(engine: SentenceBertEngine) -> None:
    texts = [" ".join(WORDS[start : start + length]) for start, length in ((0, 1), (5, 40), (9, 3), (0, 62))]
    together = vectors(embed(engine, texts))
    alone = [vectors(embed(engine, [text]))[0] for text in texts]
    assert together.shape == (len(texts), WIDTH)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert not np.allclose(together[0], together[2], atol=1e-2)


def test_tokens_are_those_of_the_text_and_all_are_counted(engine: SentenceBertEngine) -> None:
    as_text = embed(engine, ["word0 word7", "word1"])
    as_tokens = embed(engine, [[len(MARKS), len(MARKS) + 7], [len(MARKS) + 1]])
    assert as_text == as_tokens
    assert (as_text.prompt_tokens, as_text.completion_tokens, as_text.finish_reason) == (4 + 3, 0, "stop")


def test_both_encodings_hold_the_same_float32(engine: SentenceBertEngine) -> None:
    completion = embed(engine, ["word0", "word1"])
    request = {"id": "job_1", "endpoint": "/v1/embeddings", "model": "m", "created_ms": 1, "service_tier": "flex"}
    as_floats, as_base64 = (
        answer_body(request, {"encoding_format": encoding}, completion) for encoding in (None, "base64")
    )
    assert as_floats["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert (as_floats["object"], as_floats["service_tier"]) == ("list", "flex")
    for place, packed in enumerate(completion.vectors):
        told, coded = as_floats["data"][place], as_base64["data"][place]
        assert (told["object"], told["index"], coded["index"]) == ("embedding", place, place)
        assert np.array(told["embedding"], dtype="<f4").tobytes() == packed
        assert base64.b64decode(coded["embedding"]) == packed


@pytest.mark.parametrize(
    ("given", "fields", "code", "param"),
    [
        (["word0", " ".join(["word1"] * 63)], {}, "context_length_exceeded", "input[1]"),
        ([[4] * 63], {}, "context_length_exceeded", "input[0]"),
        ([[4], [VOCABULARY]], {}, "invalid_value", "input[1]"),
        (["word0"], {"dimensions": 8}, "invalid_value", "dimensions"),
        ([], {}, "invalid_value", "input"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_request_at_fault_is_refused_and_the_engine_stays_well(
    engine: SentenceBertEngine, given: Any, fields: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(EngineRefused) as refused:
        embed(engine, given, **fields)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, param)
    assert engine.health().ok
    assert len(embed(engine, ["word0"], dimensions=WIDTH).vectors) == 1


def test_a_chat_is_refused_as_a_wrong_choice_of_the_model(engine: SentenceBertEngine) -> None:
    with pytest.raises(EngineRefused, match="serves /v1/embeddings") as refused:
        engine.stream(EngineRequest("r1", "/v1/chat/completions", {"messages": []}), lambda _choices: None)
    assert refused.value.param == "model"


def test_requests_that_wait_together_are_one_batch(folder: Path) -> None:
    # As long a wait as there may be: it ends when every slot has a request.
    engine = engine_for(path=str(folder), slots=3, wait_ms=1000)
    engine.load()
    sizes: list[int] = []
    compute = engine._bert.embed
    engine._bert.embed = lambda texts: sizes.append(len(texts)) or compute(texts)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda number: embed(engine, [f"word{number}"], f"r{number}"), range(3)))
    assert sizes == [3]
    assert [len(each.vectors) for each in answers] == [1, 1, 1]
    engine.close()


def held_at_each_batch(engine: Any) -> tuple[Event, Event]:
    """Hold the engine's computing: the first event tells that it has begun, the second lets it go on."""
    begun, go = Event(), Event()
    compute = engine._bert.embed

    def held(texts: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return compute(texts)

    engine._bert.embed = held
    return begun, go


def test_a_request_that_is_cancelled_ends_within_a_batch(folder: Path) -> None:
    engine = engine_for(path=str(folder), batch_texts=1, wait_ms=0)
    engine.load()
    begun, go = held_at_each_batch(engine)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(embed, engine, ["word0"] * 50)
        assert begun.wait(20)
        assert engine.cancel("r1")
        go.set()
        ended = running.result(20)
    assert (ended.finish_reason, ended.vectors) == ("cancelled", ())
    assert ended.prompt_tokens <= 2 * 3
    assert engine.busy() == 0
    engine.close()


def test_closing_tells_what_runs_that_it_was_not_finished(folder: Path) -> None:
    engine = engine_for(path=str(folder), batch_texts=1, wait_ms=0)
    engine.load()
    begun, go = held_at_each_batch(engine)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(embed, engine, ["word0"] * 50)
        assert begun.wait(20)
        closing = pool.submit(engine.close)
        go.set()
        assert isinstance(running.exception(20), EngineError)
        closing.result(20)
    with pytest.raises(EngineError, match="closed"):
        embed(engine, ["word0"])


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(EngineError, match=r"model m: no model files: no config.json.*; fix: correct the option `path`"):
        engine_for(path=str(tmp_path)).check()
    engine_for(path=str(folder)).check()
    broken = write_tiny_bert(tmp_path / "broken")
    (broken / "config.json").write_text('{"model_type": "bert", "hidden_act": "relu"}')
    with pytest.raises(EngineError, match="expected a BERT with GELU, got bert with relu"):
        engine_for(path=str(broken)).load()
    with pytest.raises(EngineError, match=f"context_tokens: expected at most {LONGEST}, got 65"):
        engine_for(LONGEST + 1, path=str(folder)).load()

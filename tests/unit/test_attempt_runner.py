"""Does an attempt end with one word, the right one, when it is stopped, loses its lease or meets its successor?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from qosqueue.broker.leases import LEASE_LOST
from qosqueue.broker.outbox import Outbox
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import EngineError, StoreUnavailable
from qosqueue.policy.terms import WeightClass
from qosqueue.store.clock import now_ms
from qosqueue.store.records import Model
from qosqueue_workers.attempt import AttemptRunner
from qosqueue_workers.engines.base import EngineRequest
from qosqueue_workers.engines.simulated import SimulatedEngine
from tests.support.eventually import eventually

BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4_000}


class MemoryAttempts:
    """The job record of one worker, in memory: the words it was given, with their fence."""

    def __init__(self) -> None:
        self.words: list[tuple[str, int]] = []
        self.begun = threading.Event()
        self.errors: list[dict[str, Any]] = []
        self.body: dict[str, Any] | None = BODY
        self.expires: int | None = 1

    def begin(self, job_id: str, fence: int, worker: str, passage: str) -> dict[str, Any] | None:
        self.begun.set()
        return self.body

    def finish(self, job_id: str, fence: int, result: dict[str, Any], **_: int) -> bool:
        self.words.append(("finish", fence))
        return True

    def fail(self, job_id: str, fence: int, error: dict[str, Any]) -> bool:
        self.words.append(("fail", fence))
        self.errors.append(error)
        return True

    def cancelled(self, job_id: str, fence: int, **_: int) -> bool:
        self.words.append(("cancelled", fence))
        return True

    def expires_ms(self, job_id: str) -> int | None:
        return self.expires

    def expire(self, job_id: str) -> bool:
        self.words.append(("expire", 0))
        return True


@pytest.fixture
def engine() -> Iterator[SimulatedEngine]:
    options = {"step_ms": 2, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 4_000}
    made = SimulatedEngine(Model("m", "simulated", WeightClass.LIGHT, 1, 8_000, 2, options, True, 0))
    made.load()
    yield made
    made.close()


@pytest.fixture
def record() -> MemoryAttempts:
    return MemoryAttempts()


@pytest.fixture
def runner(engine: SimulatedEngine, record: MemoryAttempts) -> AttemptRunner:
    # Jobs say nothing to a web process: the outbox stays empty, and nothing is connected.
    return AttemptRunner({"m": engine}, record, Outbox(Scripts(redis.Redis(), "g")), "w")  # type: ignore[arg-type]


def request(**changes: Any) -> dict[str, Any]:
    made = {
        "id": "job_1",
        "model": "m",
        "endpoint": "/v1/chat/completions",
        "created_ms": now_ms(),
        "expires_ms": now_ms() + 60_000,
    }
    return made | {"reply": None, "body": None, "stream": False} | changes


def start(runner: AttemptRunner, fence: int) -> threading.Thread:
    thread = threading.Thread(target=runner.run, args=(request(), fence))
    thread.start()
    return thread


def test_a_cancelled_attempt_says_so(runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine) -> None:
    thread = start(runner, 1)
    eventually(lambda: engine.busy() == 1, within_s=5)
    runner.stop("job_1", "cancelled")
    thread.join(5)
    assert record.words == [("cancelled", 1)]


def test_an_attempt_that_lost_its_lease_says_nothing(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine
) -> None:
    """The job is queued again or another's: a word from here would end it."""
    thread = start(runner, 1)
    eventually(lambda: engine.busy() == 1, within_s=5)
    runner.stop("job_1", LEASE_LOST, 1)
    thread.join(5)
    assert not thread.is_alive()
    assert record.words == []


def test_the_lost_attempt_stops_and_its_successor_beside_it_runs_on(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine
) -> None:
    first, second = start(runner, 1), start(runner, 2)
    eventually(lambda: engine.busy() == 2, within_s=5)
    runner.stop("job_1", LEASE_LOST, 1)
    first.join(5)
    assert not first.is_alive()
    assert second.is_alive()
    runner.stop("job_1", "cancelled")
    second.join(5)
    assert record.words == [("cancelled", 2)]


def test_a_word_that_comes_before_the_engine_knows_the_request_is_not_lost(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = record.begin

    def slow(job_id: str, fence: int, worker: str, passage: str) -> dict[str, Any] | None:
        runner.stop(job_id, "cancelled")
        return begin(job_id, fence, worker, passage)

    monkeypatch.setattr(record, "begin", slow)
    thread = start(runner, 1)
    thread.join(5)
    assert not thread.is_alive()
    assert record.words == [("cancelled", 1)]
    assert engine.busy() == 0


def test_a_stop_for_somebody_else_stops_nobody(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine
) -> None:
    thread = start(runner, 2)
    eventually(lambda: engine.busy() == 1, within_s=5)
    runner.stop("job_2", "cancelled")
    runner.stop("job_1", LEASE_LOST, 1)
    assert thread.is_alive()
    runner.stop("job_1", "cancelled")
    thread.join(5)
    assert record.words == [("cancelled", 2)]


@pytest.mark.parametrize(
    ("changes", "word"), [({"expires_ms": 1}, ("expire", 0)), ({"model": "elsewhere"}, ("fail", 1))]
)
def test_what_cannot_run_is_told_at_once(
    runner: AttemptRunner, record: MemoryAttempts, changes: dict[str, Any], word: tuple[str, int]
) -> None:
    assert not runner.run(request(**changes), 1).served, "nothing was served"
    assert record.words == [word]
    assert not record.begun.is_set()


def test_a_job_that_got_its_time_again_runs_although_its_message_is_old(
    runner: AttemptRunner, record: MemoryAttempts
) -> None:
    record.expires, record.body = now_ms() + 60_000, BODY | {"max_tokens": 1}
    assert runner.run(request(expires_ms=1), 4).served
    assert record.words == [("finish", 4)]


def test_a_final_job_is_left_alone(runner: AttemptRunner, record: MemoryAttempts) -> None:
    record.body = None
    assert not runner.run(request(), 1).served
    assert record.words == []


def test_an_engine_that_breaks_fails_the_job_without_its_inner_words(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(call: EngineRequest, emit: Any) -> Any:
        raise EngineError("secret path /models/x")

    monkeypatch.setattr(engine, "stream", broken)
    runner.run(request(), 1)
    assert record.words == [("fail", 1)]
    assert record.errors[0]["code"] == "engine_failed"
    assert "secret" not in str(record.errors)


def test_a_bug_is_told_and_raised(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "stream", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.run(request(), 1)
    assert record.errors[0]["code"] == "internal_error"


def test_an_outcome_that_cannot_be_written_is_raised_and_not_called_a_failure(
    runner: AttemptRunner, record: MemoryAttempts, engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(engine, "stream", away)
    with pytest.raises(StoreUnavailable):
        runner.run(request(), 1)
    assert record.words == []

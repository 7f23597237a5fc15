"""Does every request get its own vectors, whatever was computed together, and is nobody kept waiting without need?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.errors import EngineError
from qosqueue_workers.engines.batching import Batcher, Bounds, Tokens

WITHIN_S = 20.0
NEVER_S = 3_600.0


def name_of(text: Tokens) -> bytes:
    return ",".join(map(str, text)).encode()


class Computing:
    """Computes the name of each text; a test may hold it, and reads which batches came."""

    def __init__(self) -> None:
        self.batches: list[list[Tokens]] = []
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, texts: list[Tokens]) -> list[bytes]:
        self.batches.append(texts)
        self.began.set()
        assert self.go.wait(WITHIN_S)
        if self.fault is not None:
            raise self.fault
        return [name_of(text) for text in texts]


def batcher(computing: Computing, **bounds: Any) -> Batcher:
    given_bounds = {"texts": 4, "tokens": 100, "wait_s": 0.0, "requests": 8} | bounds
    made = Batcher("test", computing, Bounds(**given_bounds))
    made.start()
    return made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def held(computing: Computing, made: Batcher, pool: ThreadPoolExecutor) -> Future[list[bytes]]:
    """A batch of one text that is computed until `computing.go` is set."""
    computing.go.clear()
    first = pool.submit(made.run, [[0]], threading.Event())
    assert computing.began.wait(WITHIN_S)
    return first


def waiting(made: Batcher, requests: int) -> None:
    """Return once so many requests are in the line."""
    with made._changed:
        assert made._changed.wait_for(lambda: len(made._line) == requests, WITHIN_S)


TEXTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=7)


@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 12))
def test_each_request_gets_its_own_in_order_within_the_bounds(
    requests: list[list[list[int]]], texts: int, tokens: int
) -> None:
    computing = Computing()
    made = batcher(computing, texts=texts, tokens=tokens)
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(made.run, each, threading.Event()) for each in requests]  # type: ignore[arg-type]
        for each, future in zip(requests, running, strict=True):
            assert future.result(WITHIN_S) == [name_of(text) for text in each]
    made.close()
    assert sum(map(len, computing.batches)) == sum(map(len, requests))
    assert all(len(batch) <= texts for batch in computing.batches)
    assert all(sum(map(len, batch)) <= tokens or len(batch) == 1 for batch in computing.batches)


def test_what_waits_together_is_computed_together_and_takes_turns(pool: ThreadPoolExecutor) -> None:
    computing = Computing()
    made = batcher(computing)
    first = held(computing, made, pool)
    large = pool.submit(made.run, [[1, place] for place in range(6)], threading.Event())
    waiting(made, 1)
    small = pool.submit(made.run, [[2]], threading.Event())
    waiting(made, 2)
    computing.go.set()
    for future in (first, small, large):
        future.result(WITHIN_S)
    assert computing.batches == [[[0]], [[1, 0], [2], [1, 1], [1, 2]], [[1, 3], [1, 4], [1, 5]]]
    made.close()


@pytest.mark.parametrize("bounds", [{"texts": 2}, {"tokens": 2}, {"requests": 2}])
def test_the_wait_for_others_ends_as_soon_as_no_more_fit_or_can_come(
    pool: ThreadPoolExecutor, bounds: dict[str, int]
) -> None:
    computing = Computing()
    made = batcher(computing, wait_s=NEVER_S, **bounds)
    first = pool.submit(made.run, [[1]], threading.Event())
    waiting(made, 1)
    assert computing.batches == []
    second = pool.submit(made.run, [[2]], threading.Event())
    assert [first.result(WITHIN_S), second.result(WITHIN_S)] == [[b"1"], [b"2"]]
    assert computing.batches == [[[1], [2]]]
    made.close()


def test_a_request_that_is_stopped_leaves_the_line(pool: ThreadPoolExecutor) -> None:
    computing = Computing()
    made = batcher(computing)
    first = held(computing, made, pool)
    stop = threading.Event()
    stopped = pool.submit(made.run, [[1]] * 9, stop)
    waiting(made, 1)
    stop.set()
    computing.go.set()
    assert (first.result(WITHIN_S), stopped.result(WITHIN_S)) == ([b"0"], [])
    made.close()
    assert computing.batches == [[[0]]]


def test_a_failed_batch_is_told_to_its_requests_alone(pool: ThreadPoolExecutor) -> None:
    computing = Computing()
    made = batcher(computing)
    computing.fault = ValueError("canary")
    first = held(computing, made, pool)
    second = pool.submit(made.run, [[1]] * 9, threading.Event())
    waiting(made, 1)
    computing.go.set()
    for future in (first, second):
        with pytest.raises(EngineError, match="canary"):
            future.result(WITHIN_S)
    computing.fault = None
    assert made.run([[3]], threading.Event()) == [b"3"]
    made.close()
    with pytest.raises(EngineError, match="closed"):
        made.run([[4]], threading.Event())

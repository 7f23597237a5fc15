"""Is continuous batching as fast as it says: full, alone, and while a prompt is read?"""

from __future__ import annotations

import pytest

from scripts.bench.policies.fifo import Fifo
from scripts.bench.policies.interface import Pool
from scripts.bench.sim.iterations import BASE_PART, SLOTS_OF_REPLICA, Replicas
from scripts.bench.sim.loop import run
from scripts.bench.sim.work import PROMPT_TOKEN_COST
from tests.support.simulated import request

POOL = Pool(4, 1_000, {})


def test_a_full_batch_runs_at_the_pace_of_service_ms() -> None:
    outcome = run(Fifo(POOL), [request(number, 0, 1_000) for number in range(4)], Replicas([4]))
    assert list(outcome.ended_ms) == [1_000] * 4


def test_one_sequence_alone_pays_the_base_and_its_own_part() -> None:
    outcome = run(Fifo(POOL), [request(0, 0, 1_000)], Replicas([4]))
    assert outcome.ended_ms[0] == pytest.approx(1_000 * (BASE_PART + (1 - BASE_PART) / 4), abs=1)


def test_a_prompt_delays_its_whole_batch() -> None:
    output, prompt = 1_000, 50_000
    long = request(1, 100, output + round(PROMPT_TOKEN_COST * prompt), prompt_tokens=prompt)
    long.output_tokens = output
    alone = run(Fifo(POOL), [request(0, 0, 1_000), request(1, 100, 1_000)], Replicas([4]))
    beside = run(Fifo(POOL), [request(0, 0, 1_000), long], Replicas([4]))
    delay_ms = PROMPT_TOKEN_COST * prompt / 4
    assert beside.ended_ms[0] - alone.ended_ms[0] == pytest.approx(delay_ms, abs=2)


def test_a_request_goes_to_the_replica_with_most_free_slots() -> None:
    outcome = run(Fifo(POOL), [request(number, 0, 1_000) for number in range(2)], Replicas([2, 2]))
    alone_ms = 1_000 * (BASE_PART + (1 - BASE_PART) / 2)
    assert list(outcome.ended_ms) == [pytest.approx(alone_ms, abs=1)] * 2


def test_the_slots_of_a_pool_are_whole_replicas_and_a_rest() -> None:
    assert Replicas.of(Pool(SLOTS_OF_REPLICA * 2 + 3, 1, {})).free == SLOTS_OF_REPLICA * 2 + 3
    assert Replicas.of(Pool(3, 1, {})).free == 3


def test_a_load_of_1_saturates_as_fixed_slots_do() -> None:
    requests = [request(number, 0, 1_000) for number in range(400)]
    outcome = run(Fifo(POOL), requests, Replicas([4]))
    assert outcome.over_ms == pytest.approx(400 * 1_000 / 4, rel=0.01)

"""Does the loop keep its promises to every rule, and agree with queueing theory?"""

from __future__ import annotations

import random
import statistics

import pytest

from scripts.bench.policies.fifo import Fifo
from scripts.bench.policies.interface import Policy, Pool, Request, Wait
from scripts.bench.policies.registry import POLICIES
from scripts.bench.sim.early import run_early
from scripts.bench.sim.iterations import Replicas
from scripts.bench.sim.loop import NOT_STARTED, Outcome, RuleBroken, Server, run
from scripts.bench.sim.slots import Slots
from scripts.bench.sim.tenants import DEFAULT_MIX, compose
from scripts.bench.sim.work import Scale, Work, synthetic
from tests.support.simulated import Watched, request

SLOTS = 16


def overloaded() -> Work:
    return synthetic(compose(DEFAULT_MIX, 1.3, 5), Scale(slots=SLOTS, requests=2_000), 5)


def servers() -> list[Server]:
    return [Slots(SLOTS), Replicas([8, 8])]


@pytest.mark.parametrize("server", servers(), ids=["slots", "iterations"])
@pytest.mark.parametrize("name", [name for name in POLICIES if not name.endswith("-redis")])
def test_every_rule_starts_each_request_at_most_once_in_a_free_slot(name: str, server: Server) -> None:
    work = overloaded()
    watched = Watched(server)
    outcome = run(POLICIES[name](work.pool), work.requests, watched)
    assert watched.most == SLOTS
    assert not watched.running
    for one in outcome.requests:
        start, end = outcome.started_ms[one.id], outcome.ended_ms[one.id]
        assert (start == NOT_STARTED) == (end == NOT_STARTED)
        assert start == NOT_STARTED or one.arrival_ms <= start < end


@pytest.mark.parametrize("name", [name for name in POLICIES if not name.endswith("-redis")])
def test_a_run_is_the_same_again(name: str) -> None:
    first, second = (
        run(POLICIES[name](work.pool), work.requests, Slots(SLOTS)) for work in (overloaded(), overloaded())
    )
    assert (first.started_ms, first.ended_ms) == (second.started_ms, second.ended_ms)


def test_first_come_first_served_keeps_the_order_and_no_slot_idle_while_one_waits() -> None:
    outcome = run_fifo(overloaded())
    assert list(outcome.started_ms) == sorted(outcome.started_ms)
    ends = sorted(outcome.ended_ms)
    for index, one in enumerate(outcome.requests[SLOTS:], SLOTS):
        assert outcome.started_ms[one.id] == max(one.arrival_ms, ends[index - SLOTS])


def run_fifo(work: Work) -> Outcome:
    return run(Fifo(work.pool), work.requests, Slots(work.pool.slots))


@pytest.mark.parametrize(("exponential", "factor"), [(True, 1.0), (False, 0.5)], ids=["M/M/1", "M/D/1"])
def test_the_mean_wait_of_one_slot_is_pollaczek_and_khinchine_s(exponential: bool, factor: float) -> None:
    load, mean_ms, draw = 0.7, 10_000, random.Random(11)
    requests, now_ms = [], 0.0
    for number in range(120_000):
        now_ms += draw.expovariate(load / mean_ms)
        service_ms = max(1, round(draw.expovariate(1 / mean_ms))) if exponential else mean_ms
        requests.append(request(number, int(now_ms), service_ms))
    outcome = run(Fifo(Pool(1, mean_ms, {})), requests, Slots(1))
    wait_ms = statistics.mean(start - one.arrival_ms for start, one in zip(outcome.started_ms, requests, strict=True))
    assert wait_ms == pytest.approx(factor * load / (1 - load) * mean_ms, rel=0.06)


class Scripted(Policy):
    """Answers what it is told, in order; then nothing."""

    def __init__(self, answers: list[Request | Wait | None], *, takes: bool = True) -> None:
        self.answers = answers
        self.takes = takes
        self.asked_ms: list[int] = []

    def submit(self, now_ms: int, request: Request) -> bool:
        return self.takes

    def pick(self, now_ms: int, free_slots: int) -> Request | Wait | None:
        self.asked_ms.append(now_ms)
        return self.answers.pop(0) if self.answers else None

    def settle(self, now_ms: int, request: Request, service_ms: int) -> None:
        pass


def test_a_request_that_was_started_or_has_not_arrived_may_not_be_picked() -> None:
    one, other, late = request(0, 5, 10), request(1, 5, 10), request(2, 500, 10)
    with pytest.raises(RuleBroken, match="request 0 was picked at 5 ms"):
        run(Scripted([one, one]), [one, other, late], Slots(2))
    with pytest.raises(RuleBroken, match="request 2 was picked at 5 ms"):
        run(Scripted([late]), [one, other, late], Slots(2))


def test_a_rule_that_waits_is_asked_again_at_its_time_or_when_something_changes() -> None:
    one, other = request(0, 0, 10), request(1, 30, 10)
    rule = Scripted([Wait(100), Wait(100), one, Wait(50), other])
    outcome = run(rule, [one, other], Slots(2))
    assert rule.asked_ms == [0, 30, 130, 130, 140]
    assert list(outcome.started_ms) == [130, 140]


def test_what_is_rejected_or_given_up_never_starts() -> None:
    requests = [request(0, 0, 10), request(1, 1, 10)]
    given_up, rejected = (run(Scripted([], takes=takes), requests, Slots(1)) for takes in (True, False))
    assert list(given_up.started_ms) == list(rejected.ended_ms) == [NOT_STARTED, NOT_STARTED]
    assert (given_up.rejected, rejected.rejected) == (0, 2)


def test_no_requests_is_a_run_too() -> None:
    assert run(Scripted([]), [], Slots(1)).over_ms == 0


def test_joining_the_shortest_queue_binds_at_arrival() -> None:
    requests = [request(0, 0, 100), request(1, 1, 10), request(2, 2, 50), request(3, 3, 10), request(4, 60, 10)]
    outcome = run_early([Fifo(Pool(1, 10, {})) for _ in range(2)], requests, 1)
    # 2 goes to the replica of 1 or 0 by turns, 3 to the other one; neither may move when its neighbour is idle.
    assert list(outcome.started_ms) == [0, 1, 100, 11, 60]


def test_early_binding_of_one_replica_is_the_same_as_late_binding() -> None:
    work = overloaded()
    early = run_early([Fifo(work.pool)], work.requests, SLOTS)
    assert early.started_ms == run_fifo(work).started_ms

"""Are misses, waits and held slots counted as they are defined?"""

from __future__ import annotations

from array import array

import pytest

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.fairness import jain, shortfall
from scripts.bench.harvest import idle_used
from scripts.bench.light import ratios
from scripts.bench.policies.interface import Pool
from scripts.bench.sim.loop import NOT_STARTED, Outcome
from scripts.bench.sim.occupancy import backlogged, slot_ms
from scripts.bench.sim.tally import by_tier, in_slo, parts
from scripts.bench.sim.work import Work
from tests.support.simulated import request


def outcome_of(work: Work, started_ms: list[int]) -> Outcome:
    ended = [
        start if start == NOT_STARTED else start + one.service_ms
        for start, one in zip(started_ms, work.requests, strict=True)
    ]
    return Outcome(work.requests, array("q", started_ms), array("q", ended), 0, 9_000)


def work_with(*requests: object, window: tuple[int, int] = (1_000, 5_000), **contracts: float) -> Work:
    pool = Pool(2, 100, {Tier.STANDARD: 1_000}, contracts)
    return Work(requests, 6_000, *window, pool)  # type: ignore[arg-type]


def test_only_measured_online_requests_count_and_what_never_started_is_a_miss() -> None:
    work = work_with(
        request(0, 999, 100),  # warm-up
        request(1, 1_000, 100),  # in budget, to the last millisecond
        request(2, 2_000, 100),  # late by one
        request(3, 3_000, 100),  # never
        request(4, 3_500, 100, task_type=TaskType.BATCH),
        request(5, 5_000, 100),  # too late to be measured
    )
    part = by_tier(work, outcome_of(work, [999, 2_000, 3_001, NOT_STARTED, 3_500, 5_000]))[Tier.STANDARD]
    assert part.waits_ms == [1_000, 1_001, 6_000]
    assert part.ends_ms == [1_100, 1_101, 6_000]
    assert (part.count, part.in_budget, part.in_slo) == (3, 1, pytest.approx(1 / 3))
    assert part.wait_ms(50) == 1_001
    assert part.end_to_end_ms(99) == 6_000


def test_a_request_that_never_started_misses_even_if_the_run_ended_within_its_budget() -> None:
    work = work_with(request(0, 4_000, 100, budget_ms=60_000))
    assert in_slo(by_tier(work, outcome_of(work, [NOT_STARTED]))) == 0


def test_shares_are_of_requests_not_of_groups() -> None:
    work = work_with(*(request(number, 2_000, 100, tenant="ab"[number > 0]) for number in range(4)))
    groups = parts(work, outcome_of(work, [2_000, 9_000, 9_000, 2_500]), lambda one: one.tenant)
    assert {name: part.in_slo for name, part in groups.items()} == {"a": 1, "b": pytest.approx(1 / 3)}
    assert in_slo(groups) == 0.5


def test_held_slots_are_cut_at_the_spans() -> None:
    work = work_with(request(0, 0, 2_500), request(1, 0, 10_000, tenant="other"), request(2, 0, 5))
    outcome = outcome_of(work, [500, 3_500, NOT_STARTED])
    held = slot_ms(outcome, lambda one: one.tenant, from_ms=1_000, to_ms=5_000, every_ms=1_000)
    assert held == {"tenant": [1_000, 1_000, 0, 0], "other": [0, 0, 500, 1_000]}


def test_backlogged_is_who_waits_at_every_instant_of_a_span() -> None:
    work = work_with(
        request(0, 0, 100),
        request(1, 2_500, 100),
        request(2, 1_500, 100, tenant="other"),
        request(3, 4_200, 100, tenant="gives-up"),
    )
    outcome = outcome_of(work, [2_500, 4_000, 1_600, NOT_STARTED])
    waited = backlogged(outcome, lambda one: one.tenant, from_ms=1_000, to_ms=6_000, every_ms=1_000)
    assert waited == {
        "tenant": [True, True, True, False, False],
        "other": [False] * 5,
        "gives-up": [False, False, False, False, True],
    }


def test_the_shortfall_is_the_worst_minute_of_who_waited_through_it() -> None:
    window = (0, 120_000)
    contracts = {"tenant": 0.5, "other": 0.5}
    work = work_with(
        request(0, 0, 90_000),
        request(1, 0, 500_000),
        request(2, 0, 60_000, tenant="other"),
        request(3, 1, 60_000, tenant="other"),
        window=window,
        **contracts,
    )
    # In the second minute `tenant` holds half a minute of two slots' two minutes, and waits.
    assert shortfall(work, outcome_of(work, [0, 300_000, 0, 60_000])) == pytest.approx(0.5 - 0.25)


def test_jain_is_1_for_equals_and_one_nth_for_one_winner() -> None:
    assert jain([0.3] * 5) == pytest.approx(1)
    assert jain([1, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([0, 0]) == 1


def test_idle_time_that_batch_used() -> None:
    work = work_with(request(0, 1_000, 2_000), request(1, 1_000, 3_000, task_type=TaskType.BATCH))
    assert idle_used(work, outcome_of(work, [1_000, 1_000])) == pytest.approx(3_000 / (2 * 4_000 - 2_000))


def test_a_ratio_is_above_1_when_ours_is_worse() -> None:
    requests = [request(number, 2_000, 100, tier=tier) for number, tier in enumerate(Tier)]
    work = work_with(*requests)
    same, worse = (by_tier(work, outcome_of(work, starts)) for starts in ([2_000] * 3, [2_000, 2_000, 4_000]))
    assert set(ratios(same, same).values()) == {1}
    assert max(ratios(worse, same).values()) == 2_001
    assert ratios(worse, same)["basic_in_slo"] == 2
    assert ratios(worse, same)["vip_end_p99"] == 1

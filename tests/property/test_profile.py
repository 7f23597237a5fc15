"""Does every request get a profile that the QoS model allows, whatever it asks for?"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.order import LARGEST_COST_MS
from qosqueue.policy.profile import DEFAULT_BUDGET_MS, TTL_MS, Facts, make_profile
from qosqueue.policy.terms import (
    LANES,
    MAX_BUDGET_MS,
    PRIORITY_RANGES,
    LatencyClass,
    ServiceTier,
    TaskType,
    Tier,
    WeightClass,
)

BUDGETS = st.integers(1, MAX_BUDGET_MS)
FACTS = st.builds(
    Facts,
    tier=st.sampled_from(Tier),
    weight_class=st.sampled_from(WeightClass),
    task_type=st.sampled_from(TaskType),
    prompt_tokens=st.integers(0, 10**8),
    max_output_tokens=st.integers(1, 10**8),
    latency_budget_ms=st.none() | BUDGETS,
    tenant_budget_ms=st.none() | BUDGETS,
    scenario_budget_ms=st.none() | BUDGETS,
    ttl_ms=st.none() | st.integers(1, 10**9),
    service_tier=st.sampled_from(ServiceTier),
)
YEAR_2200_MS = 7_258_118_400_000


@given(FACTS)
def test_priority_never_leaves_the_range_of_the_tier(facts: Facts) -> None:
    profile = make_profile(facts)
    allowed = PRIORITY_RANGES[facts.tier]
    assert allowed.first <= profile.priority <= allowed.last


@given(FACTS)
def test_no_request_of_a_lower_tier_reaches_the_priority_of_a_higher_one(facts: Facts) -> None:
    by_tier = [make_profile(replace(facts, tier=tier)).priority for tier in (Tier.VIP, Tier.STANDARD, Tier.BASIC)]
    assert by_tier == sorted(set(by_tier))


@given(FACTS, BUDGETS)
def test_more_urgent_is_never_served_later(facts: Facts, other_ms: int) -> None:
    given_ms = make_profile(facts).latency_budget_ms
    soon, late = sorted((given_ms, other_ms))
    first = make_profile(replace(facts, latency_budget_ms=soon))
    second = make_profile(replace(facts, latency_budget_ms=late))
    assert first.priority <= second.priority


@given(FACTS)
def test_a_service_tier_moves_within_the_range_alone(facts: Facts) -> None:
    ahead, usual, behind = (make_profile(replace(facts, service_tier=each)) for each in ServiceTier)
    assert ahead.priority <= usual.priority <= behind.priority == PRIORITY_RANGES[facts.tier].last
    assert [each.sheddable for each in (ahead, usual, behind)] == [False, False, True]
    assert ahead.latency_budget_ms == usual.latency_budget_ms
    assert {each.routing_key for each in (ahead, usual, behind)} == {usual.routing_key}


@given(FACTS)
def test_heavier_models_and_patient_work_never_gain(facts: Facts) -> None:
    facts = replace(facts, latency_budget_ms=50)
    weights = [make_profile(replace(facts, weight_class=each)).priority for each in WeightClass]
    tasks = [make_profile(replace(facts, task_type=each)).priority for each in TaskType]
    assert weights == sorted(weights)
    assert tasks == sorted(tasks)


@given(FACTS)
def test_a_profile_is_whole_and_depends_on_the_facts_alone(facts: Facts) -> None:
    profile = make_profile(facts)
    assert profile == make_profile(facts)
    assert profile.routing_key in LANES
    assert profile.routing_key == f"{facts.tier}.{facts.weight_class}"
    assert profile.cost_tokens == facts.prompt_tokens + facts.max_output_tokens
    assert 1 <= profile.cost_ms <= LARGEST_COST_MS
    assert profile.ttl_ms == (TTL_MS[facts.task_type] if facts.ttl_ms is None else facts.ttl_ms)
    assert profile.window >= 1
    assert profile.max_attempts >= 1


@given(FACTS)
def test_budget_is_the_requests_own_then_the_tenants_then_the_scenarios_then_the_default(facts: Facts) -> None:
    expected = DEFAULT_BUDGET_MS[facts.task_type][facts.tier]
    if facts.scenario_budget_ms is not None:
        expected = facts.scenario_budget_ms
    if facts.service_tier is ServiceTier.FLEX:
        less_urgent = TaskType.ASYNC if facts.task_type is TaskType.ONLINE else TaskType.BATCH
        expected = DEFAULT_BUDGET_MS[less_urgent][facts.tier]
    elif facts.tenant_budget_ms is not None and facts.task_type is TaskType.ONLINE:
        expected = facts.tenant_budget_ms
    if facts.latency_budget_ms is not None:
        expected = facts.latency_budget_ms
    assert make_profile(facts).latency_budget_ms == expected


@given(st.integers(1, 10**7))
def test_latency_class_turns_at_100_and_500_ms(budget_ms: int) -> None:
    facts = Facts(Tier.VIP, WeightClass.LIGHT, TaskType.ONLINE, 1, 1, latency_budget_ms=budget_ms)
    expected = LatencyClass.HIGH if budget_ms <= 100 else LatencyClass.MEDIUM if budget_ms <= 500 else LatencyClass.LOW
    assert make_profile(facts).latency_class is expected

"""Do the words of the QoS model mean what the design says, at every border?"""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import (
    LANES,
    PRIORITY_RANGES,
    SYSTEM_LANE,
    LatencyClass,
    Tier,
    WeightClass,
    lane_name,
    latency_class,
)


def test_a_refusal_is_a_value() -> None:
    refusal = Refusal(429, "rate_limit_exceeded", "Too many.", retry_after_s=3)
    assert refusal == Refusal(429, "rate_limit_exceeded", "Too many.", None, 3)
    with pytest.raises(FrozenInstanceError):
        refusal.status = 200  # type: ignore[misc]


def test_the_tiers_share_the_priorities_0_to_9_without_gap_or_overlap() -> None:
    taken = [each for allowed in PRIORITY_RANGES.values() for each in range(allowed.first, allowed.last + 1)]
    assert taken == list(range(10))
    assert list(PRIORITY_RANGES) == [Tier.VIP, Tier.STANDARD, Tier.BASIC]


@pytest.mark.parametrize(
    ("budget_ms", "expected"),
    [
        (0, LatencyClass.HIGH),
        (100, LatencyClass.HIGH),
        (101, LatencyClass.MEDIUM),
        (500, LatencyClass.MEDIUM),
        (501, LatencyClass.LOW),
        (10**9, LatencyClass.LOW),
    ],
)
def test_latency_class(budget_ms: int, expected: LatencyClass) -> None:
    assert latency_class(budget_ms) is expected


def test_there_is_one_lane_for_each_tier_and_weight_class() -> None:
    assert len(set(LANES)) == 9
    assert lane_name(Tier.VIP, WeightClass.HEAVY) == "vip.heavy"
    assert SYSTEM_LANE not in LANES

"""Which rows must exist before anything else? The three tiers, with their weights and default targets.

Priorities and latency targets are the constants of qosqueue.policy, which scheduling reads; the rows only show them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.terms import PRIORITY_RANGES, TIERS, TaskType, Tier
from qosqueue.store.tables import TierRow


@dataclass(frozen=True)
class TierDefaults:
    """What a tenant of a tier gets unless it has something of its own."""

    weight: int
    success_target_percent: int


TIER_DEFAULTS: dict[Tier, TierDefaults] = {
    Tier.VIP: TierDefaults(weight=8, success_target_percent=99),
    Tier.STANDARD: TierDefaults(weight=4, success_target_percent=97),
    Tier.BASIC: TierDefaults(weight=1, success_target_percent=90),
}


def seed_tiers(session: Session) -> None:
    """Add the tiers that are missing; what an operator changed stays. The caller sees that nobody else seeds."""
    present = set(session.scalars(select(TierRow.name)))
    session.add_all(_row(tier) for tier in TIERS if tier not in present)


def _row(tier: Tier) -> TierRow:
    return TierRow(
        name=tier.value,
        priority_first=PRIORITY_RANGES[tier].first,
        priority_last=PRIORITY_RANGES[tier].last,
        weight=TIER_DEFAULTS[tier].weight,
        online_target_ms=DEFAULT_BUDGET_MS[TaskType.ONLINE][tier],
        success_target_percent=TIER_DEFAULTS[tier].success_target_percent,
    )

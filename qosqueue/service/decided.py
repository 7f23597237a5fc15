"""Which facts of a decision are kept? Those that it went by, and that explain.py can tell later."""

from __future__ import annotations

from typing import Any

from qosqueue.policy.asked import judged_by
from qosqueue.policy.profile import Profile
from qosqueue.policy.reference.passage import Passage
from qosqueue.service.requests import Admitted
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision, DecisionKind


def admitted(by: Admitted, at_ms: int) -> Decision:
    """The request was let in: its profile, and what it was judged by."""
    judged = [each._asdict() for each in judged_by(by.asked, by.verdict)]
    return Decision(DecisionKind.ADMITTED, at_ms, profile_facts(by.profile) | ({"judged": judged} if judged else {}))


def fell_back(from_model: str, to_model: str, why: str) -> Decision:
    """Another model is to answer."""
    return Decision(DecisionKind.FELL_BACK, now_ms(), {"from": from_model, "to": to_model, "why": why})


def degraded(to: str, why: str) -> Decision:
    """It is to have less than was asked for: a shorter answer, or a later one."""
    return Decision(DecisionKind.DEGRADED, now_ms(), {"to": to, "why": why})


def dispatched(fence: int, worker: str, passage: str, at_ms: int | None = None) -> Decision:
    """An attempt began (`at_ms`, else now): which one, on which replica's worker, and what it met until then. Zeros are
    left out."""
    met = Passage.from_text(passage)
    told = {} if met is None else {name: value for name, value in vars(met).items() if value}
    facts = {"fence": fence, "worker": worker, "met": told}
    return Decision(DecisionKind.DISPATCHED, now_ms() if at_ms is None else at_ms, facts)


def lease_lost(fence: int, at_ms: int | None = None) -> Decision:
    """An attempt's worker was lost (noticed `at_ms`, else now), and the request waits again."""
    return Decision(DecisionKind.LEASE_LOST, now_ms() if at_ms is None else at_ms, {"fence": fence})


def retried(at_ms: int) -> Decision:
    """An attempt failed before anybody had heard of it, and there is another one."""
    return Decision(DecisionKind.RETRIED, at_ms, {"why": "the engine failed before anything was heard of its answer"})


def queued_again(why: str) -> Decision:
    """The queue knew nothing of a request that is on record as open."""
    return Decision(DecisionKind.QUEUED_AGAIN, now_ms(), {"why": why})


def reranked(given: dict[str, Any]) -> Decision:
    """An operator moved it. Who did is in the audit trail."""
    return Decision(DecisionKind.RERANKED, now_ms(), given)


def profile_facts(profile: Profile) -> dict[str, Any]:
    """The profile as the record keeps it; lengths of time in ms."""
    return {
        "tier": profile.tier,
        "weight_class": profile.weight_class,
        "latency_class": profile.latency_class,
        "task_type": profile.task_type,
        "priority": profile.priority,
        "lane": profile.routing_key,
        "budget_ms": profile.latency_budget_ms,
        "ttl_ms": profile.ttl_ms,
        "cost_tokens": profile.cost_tokens,
        "cost_ms": profile.cost_ms,
        "max_attempts": profile.max_attempts,
    }

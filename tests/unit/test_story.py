"""Is what was decided told in sentences that a person understands, and does a tenant hear of nobody else?"""

from __future__ import annotations

from typing import Any

import pytest

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.service.story import Reader, ended, length, told
from qosqueue.store.decisions import Decision, DecisionKind
from tests.support.jobs import CREATED_MS, a_job

TENANT, OPERATOR = Reader(None), Reader({"ten_1": "acme"})
PROFILE = {
    "tier": "vip", "weight_class": "light", "latency_class": "medium", "task_type": "online", "priority": 1,
    "lane": "vip.light", "budget_ms": 500, "ttl_ms": 60_000, "cost_tokens": 40, "cost_ms": 2_100, "max_attempts": 2,
}  # fmt: skip
ADMITTED = Decision(DecisionKind.ADMITTED, 1, PROFILE)
JUDGED = [
    {"counted": "requests per minute", "whose": "tenant 'acme'", "used": 3, "most": 60},
    {"counted": "requests waiting", "whose": "tenant 'acme'", "used": 1, "most": 2},
]


def dispatched(**met: Any) -> Decision:
    return Decision(DecisionKind.DISPATCHED, 2, {"fence": 1, "worker": "gpu-7", "met": {"stand": "live"} | met})


def texts(*decisions: Decision, reader: Reader = TENANT) -> str:
    return " ".join(sentence.text for sentence in told(decisions, reader))


def test_a_wait_behind_others_is_told_by_kind() -> None:
    met = {"waited_ms": 1_800, "began_vip": 12, "began_relegated": 3, "began_own": 3, "place_waiting": 40}
    said = texts(ADMITTED, dispatched(**met))
    assert said == (
        "Admitted to vip.light with priority 1 as online of latency class medium: it should begin within 500 ms, is "
        "wanted for 60.0 s, and was predicted to take 2.1 s of a slot. Waited 1.8 s: 15 requests of its model began "
        "before it (12 of vip tenants, 3 that were late and owed service), 3 of them were your own. When it came, 40 "
        "waited in its lane, itself included. Attempt 1 began on a replica, 1.3 s later than asked."
    )


def test_what_held_it_back_is_told_with_its_time() -> None:
    said = texts(ADMITTED, dispatched(waited_ms=400, held_tenant_ms=300, held_breaker_ms=20))
    assert "Waited 400 ms: its tenant ran as many at once as its cap allows for 300 ms of it; its model's" in said
    assert said.endswith("Attempt 1 began on a replica, within its 500 ms.")


@pytest.mark.parametrize(
    ("met", "words"),
    [
        ({"stand": "relegated"}, "It could no longer begin in time, so it stood behind all that could."),
        ({"stand": "batch"}, "As batch it took a slot that nobody online wanted."),
        ({"penalty_ms": 2_000, "boosted": 1}, "so it stood 2.0 s later; a boost was in force."),
        ({"in_profile": 1}, "It fit its contracted share, so neither its size nor a claim moved it back."),
        ({"waited_ms": 900}, "no slot was free for it"),
    ],
)
def test_where_it_stood_is_told(met: dict[str, Any], words: str) -> None:
    assert words in texts(dispatched(**met))


def test_a_tenant_hears_of_no_machine_and_an_operator_does() -> None:
    assert "gpu-7" not in texts(ADMITTED, dispatched())
    assert "began on gpu-7" in texts(ADMITTED, dispatched(), reader=OPERATOR)
    assert "1 of them was its own tenant's" in texts(dispatched(began_vip=1, began_own=1), reader=OPERATOR)


def test_other_roads_are_told_in_order() -> None:
    said = texts(
        Decision(DecisionKind.ADMITTED, 1, PROFILE | {"judged": JUDGED}),
        Decision(DecisionKind.DISPATCHED, 2, {"fence": 1, "worker": "w", "met": {}}),
        Decision(DecisionKind.LEASE_LOST, 3, {"fence": 1}),
        Decision(DecisionKind.QUEUED_AGAIN, 4, {"why": "the queue had lost it"}),
        Decision(DecisionKind.RERANKED, 5, {"priority": 0, "budget_ms": 90_000}),
        Decision(DecisionKind.RETRIED, 6, {"why": "the replica did not answer"}),
        Decision(DecisionKind.FELL_BACK, 7, {"from": "large", "to": "small", "why": "its breaker is open"}),
        Decision(DecisionKind.DEGRADED, 8, {"to": "64 tokens", "why": "the budget was short"}),
        dispatched(waited_ms=60_000),
    )
    for words in (
        "With it 3 of 60 requests per minute (tenant 'acme'), 1 of 2 requests waiting (tenant 'acme') were used.",
        "Attempt 1 began on a replica.",
        "The worker of attempt 1 was lost; the request went back to its old place.",
        "Queued from the record, since the queue had lost it.",
        "An operator moved it: priority 0, budget_ms 90000.",
        "Tried again elsewhere: the replica did not answer.",
        "Fell back from large to small: its breaker is open.",
        "Degraded to 64 tokens: the budget was short.",
        "within its 90.0 s.",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("status", "changes", "words"),
    [
        (JobStatus.FAILED, {"error": {"message": "The model failed."}}, ": The model failed."),
        (JobStatus.EXPIRED, {}, ": no reason is on record."),
        (JobStatus.CANCELLED, {}, "."),
        (JobStatus.CANCELLED, {"gpu_ms": 900}, "; 900 ms of a slot were used until then."),
        (JobStatus.SUCCEEDED, {"prompt_tokens": 1, "completion_tokens": 2}, ": 1 prompt and 2 completion tokens."),
    ],
)
def test_how_it_ended_is_told(status: JobStatus, changes: dict[str, Any], words: str) -> None:
    end = ended(a_job("ten_1", status=status, finished_ms=CREATED_MS + 2_000, **changes))
    assert end is not None
    assert end.text == f"{status.value.capitalize()} 2.0 s after it came{words}"


def test_what_has_not_ended_has_no_end() -> None:
    assert ended(a_job("ten_1")) is None


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0 ms"), (999, "999 ms"), (1_800, "1.8 s"), (600_000, "10 min"), (9_000_000, "2.5 h")]
)
def test_lengths_of_time(ms: int, text: str) -> None:
    assert length(ms) == text

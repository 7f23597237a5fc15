"""Does a contract pay for what was served, and for nothing else? And who teaches the predictions?"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.reference.queue import ReferenceQueue
from qosqueue.policy.terms import TIERS
from tests.support.messages import submission

NOW = 1_800_000_000_000
BUDGETS_MS = dict(zip(TIERS, (1_000, 3_000, 10_000), strict=True))
TERMS = order.pool_terms(8, 2_000, BUDGETS_MS)
CONTRACT_Q10 = 256
MOST = CONTRACT_Q10 * TERMS.slots * TERMS.burst_ms


def contracted() -> ReferenceQueue:
    queue = ReferenceQueue()
    queue.pool("m", TERMS)
    queue.share("a", Share(contract_q10=CONTRACT_Q10))
    return queue


def request(queue: ReferenceQueue, now: int, tag: str, **changes: Any) -> bool:
    """Whether a new request of the contract fits it."""
    fields = {"tenant": "a", "organisation": "a", "priority": 9, "budget_ms": 10_000, "cost_ms": 2_000} | changes
    queue.submit(now, **submission(tag, **fields))
    return queue.messages[tag].in_profile


def pick(queue: ReferenceQueue, now: int) -> Delivery:
    found = queue.dispatch(now, lease_ms=1_000, holder="w", places=[("vip.light", "m")])
    assert isinstance(found, Delivery)
    return found


def tokens(queue: ReferenceQueue) -> int:
    return queue.standing.claims.tokens["a", "m"][0]


@pytest.mark.parametrize("how", ["withdraw", "purge", "expire", "expire at a pick", "void", "cancel"])
def test_what_leaves_without_service_costs_the_contract_nothing(how: str) -> None:
    queue = contracted()
    for number in range(50):
        assert request(queue, NOW, "t", ttl_ms=5), f"request {number} finds the bucket empty though nothing was served"
        match how:
            case "withdraw":
                assert queue.withdraw(task="task-t") == 1
            case "purge":
                assert queue.purge(lane="vip.light", limit=9) == 1
            case "void":
                assert queue.settle(NOW, tag="t", fence=pick(queue, NOW).fence, outcome="void") == 1
            case "cancel":
                fence = pick(queue, NOW).fence
                queue.withdraw(task="task-t")
                assert queue.settle(NOW, tag="t", fence=fence, outcome="requeue") == 2
            case _:
                if how == "expire at a pick":
                    queue.dispatch(NOW + 5, lease_ms=1_000, holder="w", places=[("vip.light", "m")])
                assert queue.reap(NOW + 5, limit=9).expired == ("task-t",)
    assert tokens(queue) == MOST


@pytest.mark.parametrize("took_ms", [500, 2_000, 3_000])
def test_a_service_costs_the_contract_what_it_took(took_ms: int) -> None:
    queue = contracted()
    for number in range(4):
        assert request(queue, NOW, f"t{number}", cost_ms=4_000)
    for number in range(4):
        assert queue.settle(NOW, tag=f"t{number}", fence=pick(queue, NOW).fence, outcome="void") == 1
    assert request(queue, NOW, "t")
    ended = NOW + took_ms
    assert queue.settle(ended, tag="t", fence=pick(queue, NOW).fence, outcome="done") == 1
    earned = took_ms * CONTRACT_Q10 * TERMS.slots
    left = min(MOST - (2_000 << 10) + earned, MOST)
    assert tokens(queue) == min(left + (2_000 - took_ms << 10), MOST)


def test_whoever_predicts_too_little_gets_no_more_than_its_contract() -> None:
    """One slot of eight is promised, four are busy as often as the bucket allows; a tenth of the truth is told."""
    queue = contracted()
    queue.share("a", Share(contract_q10=128))
    in_profile_ms, running = 0, dict[str, tuple[int, int]]()
    for tick in range(1_000):
        now = NOW + 100 * tick
        for tag in [tag for tag, (ends, _) in running.items() if ends <= now]:
            assert queue.settle(now, tag=tag, fence=running.pop(tag)[1], outcome="done") == 1
        if len(running) < 4:
            if request(queue, now, f"t{tick}", cost_ms=100, tenant=""):
                running[f"t{tick}"] = now + 1_000, pick(queue, now).fence
                in_profile_ms += 1_000
            else:
                queue.withdraw(task=f"task-t{tick}")
    assert 80_000 < in_profile_ms <= 100_000 + TERMS.burst_ms + 4_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["request", "pick", "done", "void", "withdraw", "reap", "share"]),
            st.integers(-2_000, 9_000),
        ),
        max_size=60,
    )
)
def test_the_bucket_of_a_contract_owes_and_holds_no_more_than_a_burst(steps: list[tuple[str, int]]) -> None:
    queue, now = contracted(), NOW
    running: list[Delivery] = []
    for number, (what, ms) in enumerate(steps):
        now += ms
        match what:
            case "request":
                request(queue, now, f"t{number}", cost_ms=abs(ms), ttl_ms=20_000)
            case "pick":
                found = queue.dispatch(now, lease_ms=10**9, holder="w", places=[("vip.light", "m")])
                running += [found] if isinstance(found, Delivery) else []
            case "done" | "void" if running:
                ended = running.pop()
                outcome: Literal["done", "void"] = "done" if what == "done" else "void"
                queue.settle(now, tag=ended.tag, fence=ended.fence, outcome=outcome)
            case "withdraw" if queue.messages:
                queue.withdraw(task=next(iter(queue.messages.values())).task)
            case "reap":
                queue.reap(now, limit=9)
            case _:
                queue.share("a", None if ms < 0 else Share(contract_q10=CONTRACT_Q10))
        for left, since in queue.standing.claims.tokens.values():
            assert -MOST <= left <= MOST
            assert since <= max(now, NOW + 9_000 * (number + 1))


@pytest.mark.parametrize("how", ["void", "cancelled"])
def test_an_attempt_that_did_no_work_teaches_nothing(how: str) -> None:
    queue = contracted()
    for number in range(3):
        request(queue, NOW, f"t{number}")
    first = pick(queue, NOW)
    queue.settle(NOW + 2_500, tag=first.tag, fence=first.fence, outcome="done")
    learned = dict(queue.mean32), dict(queue.bias)
    second = pick(queue, NOW)
    if how == "void":
        assert queue.settle(NOW + 1, tag=second.tag, fence=second.fence, outcome="void") == 1
    else:
        assert queue.withdraw(task=second.task) == 2
        assert queue.settle(NOW + 1, tag=second.tag, fence=second.fence, outcome="done") == 1
    assert (queue.mean32, queue.bias) == learned
    assert second.tag not in queue.messages

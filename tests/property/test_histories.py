"""Does everybody get what was promised in the end? Over arbitrary histories: no starvation, contracts, caps."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qosqueue.policy import order
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import lane_limit, model_limit, names_of, place_limit, tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.reference.queue import ReferenceQueue
from qosqueue.policy.terms import TIERS, Tier
from tests.support.messages import submission

NOW = 1_800_000_000_000
BUDGETS_MS = {Tier.VIP: 1_000, Tier.STANDARD: 3_000, Tier.BASIC: 10_000}
PLACES = [(f"{tier}.light", "m") for tier in TIERS]
NAMES = [
    *(tenant_limit(tenant) for tenant in "ab"),
    *(tier_limit(tier) for tier in TIERS),
    *(lane_limit(lane) for lane, _ in PLACES),
    *(place_limit(*place) for place in PLACES),
    model_limit("m"),
]


def request(queue: ReferenceQueue, now: int, tag: str, priority: int, tenant: str, **changes: Any) -> None:
    tier = TIERS[order.tier_index(priority)]
    fields = {"lane": f"{tier}.light", "priority": priority, "tenant": tenant, "organisation": tenant}
    queue.submit(now, **submission(tag, **(fields | {"budget_ms": BUDGETS_MS[tier], "cost_ms": 1_000} | changes)))


def pick(queue: ReferenceQueue, now: int) -> Delivery | None:
    found = queue.dispatch(now, lease_ms=10**9, holder="w", places=PLACES)
    return found if isinstance(found, Delivery) else None


@settings(max_examples=30)
@given(
    history=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.integers(0, 400)), min_size=1, max_size=12
    ),
    # The least decides how many picks the bound allows.
    costs=st.lists(st.integers(500, 4_000), min_size=1, max_size=7),
)
def test_relegated_work_starts_within_a_bound_while_slots_keep_freeing(
    history: list[tuple[int, str, int]], costs: list[int]
) -> None:
    """However much fresh work of the first tier comes: all that is relegated is owed its part of what is served."""
    queue = ReferenceQueue()
    queue.pool("m", order.pool_terms(4, 1_000, BUDGETS_MS))
    now, owed_ms = NOW, 0
    for number, (priority, tenant, ms) in enumerate(history):
        now += ms
        request(queue, now, f"old{number}", priority, tenant)
        owed_ms += queue.messages[f"old{number}"].cost_ms
    now += 2 * BUDGETS_MS[Tier.BASIC]
    queue.age(now, limit=len(history))
    waiting = {f"old{number}" for number in range(len(history))}
    # Each pick of relegated work takes credit down by its cost; FLOOR_Q10 of what is served brings it up again.
    bound = (owed_ms * order.Q10 // order.FLOOR_Q10 // min(costs) + len(history)) * 2
    for number in range(bound):
        now += 10
        request(queue, now, f"new{number}", 0, f"t{number}", cost_ms=costs[number % len(costs)])
        found = pick(queue, now)
        assert found is not None
        waiting.discard(found.tag)
        queue.settle(now, tag=found.tag, fence=found.fence, outcome="void")
        if not waiting:
            return
    raise AssertionError(f"after {bound} picks {len(waiting)} of {len(history)} still wait")


@settings(max_examples=30)
@given(
    contract=st.sampled_from([10, 25, 50]),
    others=st.lists(st.tuples(st.integers(3, 9), st.integers(1, 12)), min_size=1, max_size=4),
)
def test_a_contract_is_served_whatever_the_others_ask_for(contract: int, others: list[tuple[int, int]]) -> None:
    """What is in profile starts within its budget, beside organisations that each flood, in a pool that is full.

    All predictions are right here: who predicts a tenth is corrected by its bias, in time and by no more than 8.
    """
    slots, service_ms = 8, 1_000
    queue = ReferenceQueue()
    queue.pool("m", order.pool_terms(slots, service_ms, BUDGETS_MS))
    queue.share("contract", Share(contract_q10=order.contract_q10(contract)))
    running: list[tuple[int, Delivery, bool]] = []
    served = asked = 0
    every_ms = service_ms * 100 // (contract * slots) + 1
    for step in range(200):
        now = NOW + 100 * step
        for ends, each, _ in [one for one in running if one[0] <= now]:
            queue.settle(ends, tag=each.tag, fence=each.fence, outcome="done")
        running = [one for one in running if one[0] > now]
        for which, (priority, burst) in enumerate(others):
            for number in range(burst if step % 4 == 0 else 0):
                request(queue, now, f"o{which}-{step}-{number}", priority, f"other{which}")
        if now - NOW >= asked * every_ms:
            request(queue, now, f"c{asked}", 9, "contract")
            assert queue.messages[f"c{asked}"].in_profile
            asked += 1
        while len(running) < slots and (found := pick(queue, now)):
            mine = found.tag.startswith("c")
            if mine:
                assert now - found.arrival <= BUDGETS_MS[Tier.BASIC] + service_ms, "later than promised"
                served += 1
            running.append((now + service_ms, found, mine))
    assert served >= asked - (BUDGETS_MS[Tier.BASIC] + service_ms) // every_ms - 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("limit"), st.sampled_from(NAMES), st.integers(0, 3), st.sampled_from([0, 500])),
            st.tuples(st.just("request"), st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 300)),
            st.tuples(st.just("end"), st.integers(0, 9), st.just(0), st.integers(0, 300)),
        ),
        max_size=80,
    )
)
def test_no_cap_of_any_kind_is_ever_exceeded_and_one_for_a_time_ends(steps: list[tuple[Any, ...]]) -> None:
    """All free slots pick after each step: what begins, begins under every limit that holds then."""
    queue, now = ReferenceQueue(), NOW
    limits: dict[str, tuple[int, int]] = {}
    running: dict[str, tuple[int, tuple[str, ...]]] = {}
    tenants: dict[str, str] = {}
    for number, (what, which, most, ms) in enumerate(steps):
        if what == "limit":
            queue.limit(now, name=which, most=most, for_ms=ms)
            limits[which] = most, now + ms if ms else 0
        elif what == "request":
            now += ms
            request(queue, now, f"t{number}", most, which, budget_ms=0)
            tenants[f"t{number}"] = which
        elif running:
            now += ms
            tag = list(running)[which % len(running)]
            queue.settle(now, tag=tag, fence=running.pop(tag)[0], outcome="done")
        while (found := pick(queue, now)) is not None:
            names = (*names_of((found.lane, found.model)), tenant_limit(tenants[found.tag]))
            for name in names:
                at_most, until = limits.get(name, (10**9, 0))
                under = sum(name in others for _, others in running.values())
                assert under < at_most or 0 < until <= now, f"{name} is exceeded"
            running[found.tag] = found.fence, names
    now += 500
    for name, (_, until) in limits.items():
        if not until:
            queue.limit(now, name=name, most=None)
    left = 0
    while pick(queue, now) is not None:
        left += 1
    assert len(running) + left == len(queue.leases)
    assert all(message.tag in queue.leases for message in queue.messages.values()), "somebody is held back for ever"

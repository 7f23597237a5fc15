"""Does each rival's rule keep the contract of the simulator, and the promise that it is known for?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosqueue.policy.terms import TIERS, TaskType, Tier
from qosqueue.store.seed import TIER_DEFAULTS
from scripts.bench.policies.classes import BATCH_CLASS, TIER_WEIGHT, class_of
from scripts.bench.policies.dynamo_drr import QUANTUM_TOKENS, DynamoDrr
from scripts.bench.policies.edf import Edf
from scripts.bench.policies.fifo import Fifo
from scripts.bench.policies.interface import Request, Wait
from scripts.bench.policies.litellm import SHARES, WINDOW_MS, LiteLlm
from scripts.bench.policies.llmd import REQUEST_TTL_MS, LlmD
from scripts.bench.policies.qoserve import QoServe
from scripts.bench.policies.registry import POLICIES
from scripts.bench.policies.smg import BULK, DEFAULT, DEFAULT_LIMITS, INTERACTIVE, Smg
from scripts.bench.policies.strict import Strict
from scripts.bench.policies.vllm_priority import VllmPriority
from scripts.bench.policies.vtc import INPUT_WEIGHT, OUTPUT_WEIGHT, Vtc
from tests.support.slot_pool import MEAN_SERVICE_MS, pool, request, serve

# A busy machine is no failure of a rule: no deadline for an example.
RUNS = settings(deadline=None, max_examples=60)
SLOTS = st.integers(1, 6)
TOKENS = st.integers(1, 4_000)
SHORT_MS = st.integers(1, 3_000)
NAMED = {"fifo", "strict", "edf", "vtc", "qoserve", "llmd", "dynamo-drr", "smg"}
# The rules that hold work back while a slot is free, and those that give up what waited too long, with the time.
HOLD_BACK = {"smg", "qosqueue"}
GIVE_UP_AFTER_MS: dict[str, Callable[[Request], int | None]] = {
    "llmd": lambda each: None if each.task_type is TaskType.BATCH else REQUEST_TTL_MS,
    "smg": lambda each: DEFAULT_LIMITS[class_of(each)].timeout_ms,
}


@st.composite
def loads(draw: st.DrawFn, *, tiers: tuple[Tier, ...] = TIERS, batch: bool = True) -> list[Request]:
    """Requests of a few tenants, some at the same instant, now and then a long pause."""
    gaps = st.sampled_from([0, 0, 1, 40, 500, 20_000])
    drawn, now_ms = [], 0
    for number in range(draw(st.integers(1, 60))):
        now_ms += draw(gaps)
        tier = draw(st.sampled_from(tiers))
        kinds = [TaskType.ONLINE, TaskType.ASYNC, TaskType.BATCH] if batch else [TaskType.ONLINE]
        drawn.append(
            request(
                number,
                tier=tier,
                tenant=f"{tier}-{draw(st.integers(0, 2))}",
                task_type=draw(st.sampled_from(kinds)),
                arrival_ms=now_ms,
                service_ms=draw(st.integers(1, 30_000)),
                predicted_ms=draw(SHORT_MS),
                prompt_tokens=draw(TOKENS),
                output_tokens=draw(TOKENS),
            )
        )
    return drawn


def test_every_baseline_of_the_benchmarks_is_there() -> None:
    assert set(POLICIES) >= NAMED


def test_weights_are_those_of_a_fresh_installation() -> None:
    assert {tier: TIER_DEFAULTS[tier].weight for tier in TIERS} == TIER_WEIGHT


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "qosqueue-redis"])
@RUNS
@given(load=loads(), slots=SLOTS)
def test_what_is_accepted_starts_at_most_once_and_waits_only_for_a_reason(
    name: str, load: list[Request], slots: int
) -> None:
    after_ms = GIVE_UP_AFTER_MS.get(name, lambda each: None)

    def may_give_up(now_ms: int, waiting: Request) -> bool:
        limit_ms = after_ms(waiting)
        return limit_ms is not None and now_ms - waiting.arrival_ms >= limit_ms

    served = serve(POLICIES[name](pool(slots)), load, slots, may_give_up=may_give_up)
    assert served.waits == 0 or name in HOLD_BACK
    assert len(served.starts) + len(served.rejected) + len(served.given_up) == len(load)
    assert name in GIVE_UP_AFTER_MS or not served.given_up
    assert not any(may_give_up(start.at_ms, start.request) for start in served.starts)
    again = serve(POLICIES[name](pool(slots)), load, slots, may_give_up=may_give_up)
    assert again.order == served.order


@RUNS
@given(load=loads(), slots=SLOTS)
def test_fifo_starts_in_the_order_of_arrival(load: list[Request], slots: int) -> None:
    assert serve(Fifo(pool(slots)), load, slots).order == [each.id for each in load]


@pytest.mark.parametrize("make", [Strict, VllmPriority])
@RUNS
@given(load=loads(), slots=SLOTS)
def test_strict_priority_takes_the_oldest_of_the_highest_class(
    make: type[Strict] | type[VllmPriority], load: list[Request], slots: int
) -> None:
    for start in serve(make(pool(slots)), load, slots).starts:
        assert start.request.id == min(start.waiting, key=lambda each: (class_of(each), each.id)).id


@RUNS
@given(load=loads(), slots=SLOTS)
def test_edf_takes_the_earliest_deadline(load: list[Request], slots: int) -> None:
    for start in serve(Edf(pool(slots)), load, slots).starts:
        assert _deadline_ms(start.request) == min(map(_deadline_ms, start.waiting))


@RUNS
@given(
    slots=SLOTS,
    tiers=st.tuples(st.sampled_from(TIERS), st.sampled_from(TIERS)),
    counts=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    second_comes_ms=st.sampled_from([0, 0, 5_000]),
    drawn=st.data(),
)
def test_vtc_serves_backlogged_tenants_by_weight_from_when_both_wait(
    slots: int, tiers: tuple[Tier, Tier], counts: tuple[int, int], second_comes_ms: int, drawn: st.DataObject
) -> None:
    """The paper's bound, twice the largest charge, with the tokens of all slots for those of its batch."""
    load = [
        request(
            number,
            tier=tiers[index],
            tenant=f"tenant-{index}",
            arrival_ms=index * second_comes_ms,
            service_ms=drawn.draw(SHORT_MS),
            prompt_tokens=drawn.draw(TOKENS),
            output_tokens=drawn.draw(TOKENS),
        )
        for number, index in enumerate([0] * counts[0] + [1] * counts[1])
    ]
    least_weight = min(TIER_WEIGHT[tier] for tier in tiers)
    most = max(map(_vtc_tokens, load)) + OUTPUT_WEIGHT * max(each.output_tokens for each in load)
    served = Counter[str]()
    virtual = dict.fromkeys(("tenant-0", "tenant-1"), 0.0)
    for start in serve(Vtc(pool(slots)), load, slots).starts:
        backlog = {each.tenant for each in start.waiting}
        if start.at_ms < second_comes_ms or len(backlog) < len(virtual):
            continue
        served[start.request.tenant] += 1
        virtual[start.request.tenant] += _vtc_tokens(start.request) / TIER_WEIGHT[start.request.tier]
        assert abs(virtual["tenant-0"] - virtual["tenant-1"]) <= 2 * (slots + 1) * most / least_weight


@RUNS
@given(tenants=st.lists(st.sampled_from("ab"), min_size=1, max_size=40), before=st.integers(0, 40))
def test_vtc_lifts_a_tenant_that_was_away(tenants: list[str], before: int) -> None:
    away = [request(number, tenant="a") for number in range(before)]
    returned_ms = before * MEAN_SERVICE_MS
    both = [request(before + number, tenant=name, arrival_ms=returned_ms) for number, name in enumerate(tenants)]
    served = Counter[str]()
    for start in serve(Vtc(pool(1)), away + both, 1).starts[before:]:
        if len({each.tenant for each in start.waiting}) == 2:
            served[start.request.tenant] += 1
            # An unknown output is predicted as none, so the first pick of a new tenant is nearly free.
            assert abs(served["a"] - served["b"]) <= 2


def test_vtc_takes_a_contract_for_the_weight() -> None:
    load = [request(number, tenant="ab"[number % 2], output_tokens=1) for number in range(400)]
    served = serve(Vtc(pool(1, {"a": 0.3, "b": 0.1})), load, 1)
    first = Counter(start.request.tenant for start in served.starts[:200])
    assert 2.8 <= first["a"] / first["b"] <= 3.2


@RUNS
@given(load=loads(), slots=SLOTS)
def test_qoserve_starts_nothing_late_while_something_can_be_in_time(load: list[Request], slots: int) -> None:
    for start in serve(QoServe(pool(slots)), load, slots).starts:
        if any(_deadline_ms(each) >= start.at_ms for each in start.waiting):
            assert _deadline_ms(start.request) >= start.at_ms


@RUNS
@given(predictions=st.lists(SHORT_MS, min_size=1, max_size=2))
def test_qoserve_takes_the_shorter_of_equal_deadlines(predictions: list[int]) -> None:
    load = [request(number, predicted_ms=predicted_ms) for number, predicted_ms in enumerate(predictions)]
    order = serve(QoServe(pool(1)), load, 1).order
    assert order == sorted(order, key=lambda number: (predictions[number], number))


@RUNS
@given(load=loads(), slots=SLOTS)
def test_llmd_serves_the_highest_band_and_the_earliest_deadline_of_a_flow(load: list[Request], slots: int) -> None:
    for start in serve(LlmD(pool(slots), ttl_ms=None), load, slots).starts:
        band = min(map(class_of, start.waiting))
        assert class_of(start.request) == band
        flow = [each for each in start.waiting if class_of(each) == band and each.tenant == start.request.tenant]
        assert _deadline_ms(start.request) == min(map(_deadline_ms, flow))


@RUNS
@given(tenants=st.lists(st.sampled_from("abcde"), min_size=1, max_size=60))
def test_llmd_serves_the_flows_of_a_band_in_turn(tenants: list[str]) -> None:
    load = [request(number, tenant=tenant) for number, tenant in enumerate(tenants)]
    served = Counter[str]()
    for start in serve(LlmD(pool(1), ttl_ms=None), load, 1).starts:
        waiting = {each.tenant for each in start.waiting}
        assert all(served[start.request.tenant] <= served[other] for other in waiting)
        served[start.request.tenant] += 1


def test_llmd_rejects_what_a_limited_band_has_no_room_for() -> None:
    policy = LlmD(pool(1), band_limits=(None, None, 2, None))
    accepted = [policy.submit(0, request(number)) for number in range(4)]
    assert accepted == [True, True, False, False]
    assert policy.submit(0, request(9, tier=Tier.VIP))


@RUNS
@given(load=loads(), slots=SLOTS)
def test_dynamo_takes_the_shortest_prompt_of_a_class(load: list[Request], slots: int) -> None:
    for start in serve(DynamoDrr(pool(slots)), load, slots).starts:
        same = [each for each in start.waiting if class_of(each) == class_of(start.request)]
        assert start.request.prompt_tokens == min(each.prompt_tokens for each in same)


@RUNS
@given(prompts=st.lists(st.tuples(st.sampled_from(TIERS), st.booleans(), TOKENS), min_size=1, max_size=150))
def test_dynamo_serves_backlogged_classes_in_the_ratio_of_their_quanta(prompts: list[tuple[Tier, bool, int]]) -> None:
    load = [
        request(number, tier=tier, task_type=TaskType.BATCH if batch else TaskType.ONLINE, prompt_tokens=prompt_tokens)
        for number, (tier, batch, prompt_tokens) in enumerate(prompts)
    ]
    most = max(each.prompt_tokens for each in load)
    tokens = Counter[int]()
    for start in serve(DynamoDrr(pool(1)), load, 1).starts:
        tokens[class_of(start.request)] += start.request.prompt_tokens
        for one, other in combinations({class_of(each) for each in start.waiting}, 2):
            rounds_apart = abs(tokens[one] / QUANTUM_TOKENS[one] - tokens[other] / QUANTUM_TOKENS[other])
            assert rounds_apart <= 2 + most / QUANTUM_TOKENS[one] + most / QUANTUM_TOKENS[other]


@pytest.mark.parametrize(
    ("tier", "task_type"), [*((tier, TaskType.ONLINE) for tier in TIERS), (Tier.BASIC, TaskType.BATCH)]
)
def test_smg_rejects_what_finds_the_queue_of_its_class_full(tier: Tier, task_type: TaskType) -> None:
    policy = Smg(pool(2))
    for number in range(2):
        assert policy.submit(0, request(number, tier=Tier.VIP))
        assert isinstance(policy.pick(0, 2 - number), Request)
    depth = DEFAULT_LIMITS[class_of(request(0, tier=tier, task_type=task_type))].depth
    accepted = [policy.submit(0, request(9 + number, tier=tier, task_type=task_type)) for number in range(depth + 2)]
    assert accepted == [True] * depth + [False] * 2


@RUNS
@given(load=loads(), slots=SLOTS)
def test_smg_keeps_the_order_of_arrival_inside_a_class(load: list[Request], slots: int) -> None:
    started = [
        start.request for start in serve(Smg(pool(slots)), load, slots, may_give_up=lambda now_ms, _: True).starts
    ]
    for number in range(BATCH_CLASS + 1):
        ids = [each.id for each in started if class_of(each) == number]
        assert ids == sorted(ids)


@RUNS
@given(slots=st.integers(4, 300), running=st.lists(st.sampled_from(TIERS), max_size=300))
def test_smg_keeps_reserved_slots_for_the_higher_classes(slots: int, running: list[Tier]) -> None:
    policy = Smg(pool(slots))
    reserved = policy._reserved
    assert sum(reserved) <= slots
    for number, tier in enumerate(running):
        policy.submit(0, request(number, tier=tier))
    started = Counter[int]()
    free = slots
    while free and isinstance(picked := policy.pick(0, free), Request):
        started[class_of(picked)] += 1
        free -= 1
        kept = sum(max(0, reserved[higher] - started[higher]) for higher in range(class_of(picked)))
        assert free >= kept


@RUNS
@given(seconds=st.integers(0, 200))
def test_smg_holds_batch_work_back_until_it_starves_or_is_given_up(seconds: int) -> None:
    policy = Smg(pool(8))
    assert policy._reserved == [0, 2, 1, 0]
    for number in range(6):
        policy.submit(0, request(number, task_type=TaskType.BATCH))
    started = [policy.pick(0, free) for free in (8, 7, 6, 5, 4)]
    assert all(isinstance(picked, Request) for picked in started)
    late_ms = 1_000 * seconds
    picked = policy.pick(late_ms, 3)
    if late_ms > (BULK.starves_after_ms or 0):
        assert isinstance(picked, Request)
    else:
        assert picked == Wait((BULK.starves_after_ms or 0) + 1 - late_ms)


def test_smg_promotes_the_lowest_starving_class_first() -> None:
    policy = Smg(pool(1))
    basic, standard, vip = (request(number, tier=tier) for number, tier in enumerate(reversed(TIERS)))
    assert policy.submit(0, basic)
    late_ms = (DEFAULT.starves_after_ms or 0) + 1
    assert policy.submit(late_ms - (INTERACTIVE.starves_after_ms or 0) - 1, standard)
    assert policy.submit(late_ms, vip)
    assert [policy.pick(late_ms, 1) for _ in range(4)] == [basic, standard, vip, None]


@RUNS
@given(
    slots=st.integers(1, 8),
    arrivals=st.lists(st.tuples(st.integers(0, 400), st.sampled_from(TIERS), st.booleans()), max_size=800),
)
def test_litellm_accepts_no_more_than_a_window_holds(slots: int, arrivals: list[tuple[int, Tier, bool]]) -> None:
    policy = LiteLlm(pool(slots))
    limit = WINDOW_MS * slots // 1_000
    now_ms, opened_ms = 0, None
    accepted: Counter[int] = Counter()
    for number, (gap_ms, tier, batch) in enumerate(arrivals):
        now_ms += gap_ms
        if opened_ms is None or now_ms >= opened_ms + WINDOW_MS:
            opened_ms, accepted = now_ms, Counter()
        arriving = request(number, tier=tier, task_type=TaskType.BATCH if batch else TaskType.ONLINE)
        number_of_class = class_of(arriving)
        used, share = accepted.total(), int(limit * SHARES[number_of_class])
        assert policy.submit(now_ms, arriving) == (
            used < limit and (2 * used < limit or accepted[number_of_class] < share)
        )
        if policy.pick(now_ms, 1) is not None:
            accepted[number_of_class] += 1


def test_litellm_lets_one_priority_borrow_until_half_of_the_limit_is_used() -> None:
    policy = LiteLlm(pool(1))
    accepted = [policy.submit(0, request(number)) for number in range(60)]
    assert accepted == [True] * 30 + [False] * 30
    assert policy.submit(0, request(60, tier=Tier.VIP))
    assert policy.submit(WINDOW_MS, request(61))


def test_batch_work_of_any_tier_is_the_last_class() -> None:
    assert {class_of(request(0, tier=tier, task_type=TaskType.BATCH)) for tier in TIERS} == {BATCH_CLASS}


def _deadline_ms(each: Request) -> int:
    return each.arrival_ms + each.budget_ms


def _vtc_tokens(each: Request) -> int:
    return INPUT_WEIGHT * each.prompt_tokens + OUTPUT_WEIGHT * each.output_tokens

"""Do the Lua scripts do exactly what the reference says? Random commands on both; results and whole states compared."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.order import LONGEST_MS, pool_terms
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import lane_limit, model_limit, place_limit, tenant_limit, tier_limit
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.reference.queue import ReferenceQueue
from qosqueue.policy.terms import TIERS
from tests.support import snapshots

GROUP = "differential"
LANES = ["vip.light", "basic.light", "queue:of a host"]
MODELS = ["", "small", "large:8b"]
PLACES = [(lane, model) for lane in LANES for model in MODELS]
TENANTS = ["", "a", "b:c", "ü"]
ORGANISATIONS = ["", "a", "both"]
# Few tags and fewer tasks, so that duplicates, late fences and reused task ids happen all the time.
TAGS = st.sampled_from([f"tag{number}" for number in range(24)])
TASKS = st.sampled_from([f"task{number}" for number in range(10)])
RECENT = st.integers(0, 5)
PRIORITIES = st.integers(0, 9)
BUDGETS = st.sampled_from([0, 1, 40, 1_000, 3_000, 2**42])
MESSAGE = {
    "tag": TAGS,
    "task": TASKS,
    "place": st.sampled_from(PLACES),
    "tenant": st.sampled_from(TENANTS),
    "organisation": st.sampled_from(ORGANISATIONS),
    "priority": PRIORITIES,
    "batch": st.booleans(),
    "budget_ms": BUDGETS,
    "cost_ms": st.sampled_from([0, 1, 700, 5_000, 2**26]),
    "delay_ms": st.sampled_from([0, 0, 0, 500, 4_000]),
    "ttl_ms": st.one_of(st.just(0), st.integers(1, 10_000)),
    "max_attempts": st.integers(1, 3),
    "fence": st.one_of(st.none(), st.none(), st.integers(0, 3)),
}
LIMITED = st.sampled_from(
    [
        *(tenant_limit(tenant) for tenant in TENANTS if tenant),
        *(lane_limit(lane) for lane in LANES),
        *(tier_limit(tier) for tier in TIERS),
        *(model_limit(model) for model in MODELS),
        *(place_limit(*place) for place in PLACES),
    ]
)


MOST_ROUNDS = 20

REFUSED: list[tuple[str, tuple[Any, ...]]] = [
    ("submit", ("tag", "task")),
    ("submit", ("refused", "task", "lane", "m", "", "", "first", 0, 0, 0, 0, 0, 3, "body", 0, "")),
    ("submit", ("refused", "task", "lane", "m", "", "", 0, 0, 0, 0, 0, 0, 3, "body", 2, "")),
    ("submit", ("refused", "task", "lane", "m", "", "", 10, 0, 0, 0, 0, 0, 3, "body", 0, "")),
    ("submit", ("refused", "task", "lane", "m", "", "", 0, 0, -1, 0, 0, 0, 3, "body", 0, "")),
    ("submit", ("refused", "task", "lane", "m", "", "", 0, 0, 0, 0, "soon", 0, 3, "body", 0, "")),
    ("submit", ("refused", "task", "lane", "m", "", "", 0, 0, 0, 0, 0, 0, 3, "body", 0, -1)),
    ("dispatch", (1_000, "holder", 2, 2, "9:vip.light:small")),
    ("renew", (1_000, "tag0")),
    ("settle", ("tag0", 1)),
    ("withdraw", ()),
    ("rerank", ("task0", 3)),
    ("rerank", ("task0", 10, "", "", 0, 0)),
    ("replay", ()),
    ("discard", ()),
    ("reap", ()),
    ("reap", (0,)),
    ("age", (-1,)),
    ("purge", ("vip.light", 0)),
    ("renew", (-1, "tag0", 1)),
    ("age", (1, 2)),
    ("purge", ("vip.light",)),
    ("limit", ("t:a", "many", 0)),
    ("limit", ("t:a", 1)),
]


class QueueMachine(RuleBasedStateMachine):
    """Runs each command on the scripts and on the reference, at the same instant."""

    client: redis.Redis
    ran: ClassVar[Counter[str]]
    """How many commands of all histories were compared, and how many refusals."""

    @initialize()
    def begin(self) -> None:
        self.client.flushdb()
        self.scripts = Scripts(self.client, GROUP)
        self.reference = ReferenceQueue()
        self.now = 1_800_000_000_000
        self.deliveries: list[tuple[str, int]] = [("never-seen", 1)]

    def same(self, ours: Any, theirs: Any) -> None:
        assert ours == theirs, (ours, theirs)
        self.ran["commands"] += 1

    @rule(messages=st.lists(st.fixed_dictionaries(MESSAGE), min_size=1, max_size=6))
    def submit(self, messages: list[dict[str, Any]]) -> None:
        self.submitted(messages)

    def submitted(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            lane, model = message.pop("place")
            message |= {"lane": lane, "model": model, "payload": f"body of {message['tag']}"}
            self.same(self.scripts.submit(**message, now_ms=self.now), self.reference.submit(self.now, **message))

    @rule(
        places=st.lists(st.sampled_from(PLACES), unique=True, max_size=len(PLACES)),
        lease_ms=st.integers(1, 5_000),
        warm=st.one_of(st.none(), st.integers(0, 3)),
    )
    def dispatch(self, places: list[Any], warm: int | None, lease_ms: int) -> None:
        self.dispatched(places=places, lease_ms=lease_ms, warm=None if warm is None else min(warm, len(places)))

    @rule(lease_ms=st.integers(1, 5_000), times=st.integers(1, 4))
    def dispatch_anywhere(self, times: int, **how: Any) -> None:
        for _ in range(times):
            self.dispatched(places=PLACES, **how)

    def dispatched(self, **how: Any) -> None:
        picked = self.scripts.dispatch(holder="worker", now_ms=self.now, **how)
        self.same(picked, self.reference.dispatch(self.now, holder="worker", **how))
        if isinstance(picked, Delivery):
            self.deliveries.append((picked.tag, picked.fence))

    def recent(self, how_far_back: int) -> tuple[str, int]:
        return self.deliveries[max(-len(self.deliveries), -1 - how_far_back)]

    @rule(which=st.lists(RECENT, min_size=1, max_size=4), lease_ms=st.integers(1, 5_000))
    def renew(self, which: list[int], lease_ms: int) -> None:
        leases = [self.recent(back) for back in which]
        self.same(
            self.scripts.renew(lease_ms=lease_ms, leases=leases, now_ms=self.now),
            self.reference.renew(self.now, lease_ms=lease_ms, leases=leases),
        )

    @rule(
        whiches=st.lists(RECENT, min_size=1, max_size=4, unique=True),
        outcome=st.sampled_from(["done", "void", "requeue", "retry", "dead"]),
    )
    def settle(self, whiches: list[int], outcome: Any) -> None:
        for which in whiches:
            tag, fence = self.recent(which)
            self.same(
                self.scripts.settle(tag=tag, fence=fence, outcome=outcome, now_ms=self.now),
                self.reference.settle(self.now, tag=tag, fence=fence, outcome=outcome),
            )

    @rule(task=TASKS, lane=st.sampled_from(LANES), limit=st.integers(1, 3), purge=st.booleans())
    def take_back(self, task: str, lane: str, limit: int, purge: bool) -> None:
        if purge:
            self.same(
                self.scripts.purge(lane=lane, limit=limit, now_ms=self.now),
                self.reference.purge(lane=lane, limit=limit),
            )
            self.client.function_flush()
        else:
            self.take_back_task(task)

    def take_back_task(self, task: str) -> None:
        self.same(self.scripts.withdraw(task=task, now_ms=self.now), self.reference.withdraw(task=task))

    @rule(
        task=TASKS,
        priority=st.one_of(st.none(), PRIORITIES),
        budget_ms=st.one_of(st.none(), BUDGETS),
        boost=st.one_of(st.none(), PRIORITIES),
        boost_ms=st.sampled_from([0, 100, 2_000]),
        charge=st.booleans(),
    )
    def rerank(self, **what: Any) -> None:
        self.same(self.scripts.rerank(**what, now_ms=self.now), self.reference.rerank(self.now, **what))

    @rule(task=TASKS)
    def replay(self, task: str) -> None:
        self.same(self.scripts.replay(task=task, now_ms=self.now), self.reference.replay(self.now, task=task))

    @rule(which=RECENT)
    def discard(self, which: int) -> None:
        tag, _ = self.recent(which)
        self.same(self.scripts.discard(tag=tag, now_ms=self.now), self.reference.discard(tag=tag))

    @rule(limit=st.integers(1, 5), later_ms=st.integers(0, 6_000), reap=st.booleans())
    def sweep(self, limit: int, later_ms: int, reap: bool) -> None:
        self.now += later_ms
        if reap:
            self.same(self.scripts.reap(limit=limit, now_ms=self.now), self.reference.reap(self.now, limit=limit))
        else:
            self.same(self.scripts.age(limit=limit, now_ms=self.now), self.reference.age(self.now, limit=limit))

    @rule(name=LIMITED, most=st.one_of(st.none(), st.integers(0, 2)), for_ms=st.sampled_from([0, 300, 2_000]))
    def limit(self, **what: Any) -> None:
        self.limited(**what)

    def limited(self, **what: Any) -> None:
        self.same(self.scripts.limit(**what, now_ms=self.now), self.reference.limit(self.now, **what))

    @rule(
        organisation=st.sampled_from(ORGANISATIONS[1:]),
        share=st.builds(
            Share,
            contract_q10=st.sampled_from([0, 50, 500]),
            allowance_q10=st.one_of(st.none(), st.integers(0, 1024)),
            steepness_q10=st.sampled_from([256, 1024, 2**20]),
        ),
        model=st.sampled_from(MODELS[1:]),
        slots=st.sampled_from([0, 1, 4, 2**20]),
        mean_ms=st.sampled_from([0, 30, 4_000]),
        budgets_ms=st.sampled_from([(250, 500, 1_000), (1_000, 3_000, 2**27)]),
        spare=st.integers(0, 2),
    )
    def terms(self, organisation: str, share: Share, model: str, budgets_ms: Any, spare: int, **figures: int) -> None:
        terms = replace(pool_terms(budgets_ms=dict(zip(TIERS, budgets_ms, strict=True)), **figures), spare=spare)
        for queue in (self.scripts, self.reference):
            queue.share(organisation, share)
            queue.pool(model, terms)

    @rule(priority=PRIORITIES, taken_back=st.integers(0, 2))
    def parked_tenant_takes_back(self, priority: int, taken_back: int) -> None:
        """Rare by chance: a tenant at its limit with several messages in one row, of which one leaves."""
        self.limited(name=tenant_limit("a"), most=0, for_ms=0)
        shared: dict[str, Any] = {"tenant": "a", "organisation": "a", "priority": priority, "batch": False}
        shared |= {"budget_ms": 0, "cost_ms": 700, "delay_ms": 0, "ttl_ms": 0, "max_attempts": 2, "place": PLACES[1]}
        self.submitted([shared | {"tag": f"parked{number}", "task": f"parked{number}"} for number in range(3)])
        self.dispatched(places=PLACES, lease_ms=1_000)
        self.take_back_task(f"parked{taken_back}")

    @rule(
        steps=st.lists(st.integers(-3_000, 2_000), min_size=2, max_size=4),
        kind=st.fixed_dictionaries({"priority": st.sampled_from([0, 8]), "batch": st.booleans()}),
        later_ms=st.integers(0, 6_000),
    )
    def contract_meets_a_clock_that_moves(self, steps: list[int], kind: dict[str, Any], later_ms: int) -> None:
        """Rare by chance: requests of one contract, one after the other, while the clock goes forward and back; then
        some miss their budgets."""
        terms = pool_terms(4, 500, dict(zip(TIERS, (1_000, 3_000, 4_000), strict=True)))
        for queue in (self.scripts, self.reference):
            queue.share("both", Share(contract_q10=100))
            queue.pool("small", terms)
        for number, step in enumerate(steps):
            self.now += step
            message: dict[str, Any] = {
                "tag": f"contract{number}",
                "task": f"contract{number}",
                "tenant": "",
            }
            message |= kind | {"organisation": "both", "budget_ms": 3_000, "cost_ms": 700, "delay_ms": 0}
            message |= {"ttl_ms": 0, "max_attempts": 2, "lane": LANES[0], "model": "small", "payload": "body"}
            self.same(self.scripts.submit(**message, now_ms=self.now), self.reference.submit(self.now, **message))
            self.whole_state_is_equal()
        self.now += later_ms
        self.same(self.scripts.age(limit=9, now_ms=self.now), self.reference.age(self.now, limit=9))
        self.whole_state_is_equal()
        for number in range(len(steps)):
            self.take_back_task(f"contract{number}")

    @rule(ms=st.one_of(st.integers(-1_000, 3_000), st.sampled_from([-7_200_000, 60_000, 7_200_000, 86_400_000])))
    def clock_moves(self, ms: int) -> None:
        """Forward, and sometimes back: a failover may bring a server whose clock is behind, or hours away."""
        self.now += ms

    @rule(ms=st.integers(-5_000, 5_000), back=st.booleans())
    def clock_moves_to_the_end_of_time(self, ms: int, back: bool) -> None:
        """Scores are exact doubles up to there: nothing is told apart any more, but all is still the same."""
        self.now = 1_800_000_000_000 if back else LONGEST_MS + ms

    @rule(call=st.sampled_from(REFUSED))
    def refused(self, call: tuple[str, tuple[Any, ...]]) -> None:
        """The wrong number of arguments, an outcome that nobody knows: an error, and nothing is changed."""
        name, arguments = call
        (answer,) = self.scripts.run([self.scripts.command(name, *arguments, now_ms=self.now)])
        assert isinstance(answer, redis.ResponseError), answer
        self.ran["refusals"] += 1

    @rule(
        wrong=st.sampled_from(
            [("priority", 10), ("priority", -1), ("budget_ms", -1), ("cost_ms", 2**42 + 1), ("fence", -1)]
        ),
        message=st.fixed_dictionaries(MESSAGE),
    )
    def refused_figure(self, wrong: tuple[str, int], message: dict[str, Any]) -> None:
        lane, model = message.pop("place")
        message |= {"lane": lane, "model": model, "payload": "body"} | dict([wrong])
        with pytest.raises(redis.ResponseError):
            self.scripts.submit(**message, now_ms=self.now)
        with pytest.raises(ValueError, match=wrong[0]):
            self.reference.submit(self.now, **message)
        self.ran["refusals"] += 1

    @rule(which=RECENT, outcome=st.sampled_from(["", "Done", "expired"]))
    def refused_outcome(self, which: int, outcome: Any) -> None:
        """Both refuse, also of an attempt that is held."""
        tag, fence = self.recent(which)
        with pytest.raises(redis.ResponseError):
            self.scripts.settle(tag=tag, fence=fence, outcome=outcome, now_ms=self.now)
        with pytest.raises(ValueError, match="outcome"):
            self.reference.settle(self.now, tag=tag, fence=fence, outcome=outcome)
        self.ran["refusals"] += 1

    @invariant()
    def whole_state_is_equal(self) -> None:
        if hasattr(self, "reference"):
            assert snapshots.of_redis(self.client, GROUP) == snapshots.of_reference(self.reference)


@pytest.mark.timeout(3600)
def test_scripts_match_reference(redis_client: redis.Redis) -> None:
    """TEST_STEPS sets how many commands are run in all (default 2,500)."""
    steps = int(os.environ.get("TEST_STEPS", "2500"))
    ran: Counter[str] = Counter()
    machine = type("Machine", (QueueMachine,), {"client": redis_client, "ran": ran})
    # A history of 50 steps may have few commands in it: Hypothesis leaves some kinds of step out of each. So: until
    # enough were compared.
    rounds = 0
    while ran["commands"] < steps:
        rounds += 1
        assert rounds <= MOST_ROUNDS, f"only {ran['commands']} commands of {steps} were compared"
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=max(1, steps // 100),
                stateful_step_count=50,
                deadline=None,
                # Each round has other histories, on machines for tests too.
                derandomize=False,
                # Shrinking a long history over a real server takes minutes; the history as found says enough.
                phases=[Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert ran["refusals"] >= steps // 100

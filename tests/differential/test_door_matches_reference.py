"""Do admission and breakers do exactly what the reference says, beside the order and with a clock that jumps?"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.breaker import UNTRIED_MS, model_breaker, replica_breaker
from qosqueue.policy.order import LONGEST_MS
from qosqueue.policy.quota import DAY_MS, HELD_FOR_MS, HOLD_MS, LARGEST_AMOUNT, Kind, Quota
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.reference.queue import ReferenceQueue
from tests.support import snapshots
from tests.support.messages import submission

GROUP = "door"
PLACES = [("vip.light", "m")]
OUTCOMES = st.sampled_from(["done", "void", "requeue", "retry", "retry", "dead"])
# Few, so that requests meet each other's: duplicates, late releases, reused ids.
REQUESTS = st.sampled_from([f"task-{number}" for number in range(6)])
NAMES = st.sampled_from(["t:a", "c:vip", "ü:x y"])
BREAKERS = [model_breaker("m"), replica_breaker("w:1", "m"), model_breaker("other")]
COUNTED = st.sampled_from([kind for kind in Kind if kind is not Kind.BREAKER])
QUOTAS = st.builds(
    Quota,
    NAMES,
    COUNTED,
    st.sampled_from([0, 1, 2, 7, 60_000, LARGEST_AMOUNT]),
    st.sampled_from([0, 1, 3, 59_999, LARGEST_AMOUNT]),
)
ASKED = st.lists(
    st.one_of(QUOTAS, st.builds(Quota, st.sampled_from(BREAKERS), st.just(Kind.BREAKER), st.just(0), st.just(0))),
    max_size=5,
    unique_by=lambda quota: (quota.kind, quota.name),
)
SPENT = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"tokens": st.sampled_from([0, 1, 5, LARGEST_AMOUNT]), "gpu_ms": st.sampled_from([0, 4, 90_000])}
    ),
)
JUMPS = st.one_of(
    st.integers(-2_000, 70_000),
    st.sampled_from([-3_600_000, -2 * DAY_MS, -1, 1, HOLD_MS, HELD_FOR_MS, 5_000, 60_000, DAY_MS // 2, 3 * DAY_MS]),
)
REFUSED: list[tuple[str, tuple[Any, ...]]] = [
    ("admit", ()),
    ("admit", ("task-1", "t:a")),
    ("admit", ("task-1", "t:a", "days", 1, 1)),
    ("admit", ("task-1", "t:a", "tokens", -1, 1)),
    ("admit", ("task-1", "t:a", "tokens", 1, LARGEST_AMOUNT + 1)),
    ("admit", ("task-1", "t:a", "tokens", 1, "0.5")),
    ("admit", ("task-1", "t:a", "tokens", 1, 1, "t:a", "tokens", 1, 1)),
    ("admit", ("task-1", "t:a", "tokens", 1, 1, "t:b", "tokens", "", 1)),
    ("offer", ()),
    ("offer", (1, "task-1")),
    ("offer", (2, "task-1", "t:a", "tag1")),
    ("release", ("task-1",)),
    ("release", ("task-1", -1, 1)),
    ("release", ("task-1", 1, "")),
    ("settle", ("tag1", 1, "done")),
    ("settle", ("tag1", 1, "done", 1, "")),
    ("settle", ("tag1", 1, "done", -1, 1)),
    ("lapse", (0,)),
    ("lapse", ()),
    ("observe", (1,)),
    ("observe", (2, "m:m")),
    ("probe", (1,)),
    ("trip", ("m:m",)),
    ("trip", ("m:m", -1)),
]
MOST_ROUNDS = 20


class DoorMachine(RuleBasedStateMachine):
    """Runs each command on the scripts and on the reference, at the same instant."""

    client: redis.Redis
    ran: ClassVar[Counter[str]]

    @initialize(start=st.sampled_from([1_800_000_000_000, 20_000 * DAY_MS - 1, 5]))
    def begin(self, start: int) -> None:
        self.client.flushdb()
        self.scripts, self.reference = Scripts(self.client, GROUP), ReferenceQueue()
        self.now = start
        self.number = 0
        self.deliveries: list[tuple[str, int]] = [("never-seen", 1)]

    def same(self, command: str, **arguments: Any) -> Any:
        ours = getattr(self.scripts, command)(**arguments, now_ms=self.now)
        theirs = getattr(self.reference, command)(self.now, **arguments)
        assert ours == theirs, (command, arguments, ours, theirs)
        self.ran[command] += 1
        return ours

    @rule(request=REQUESTS, quotas=ASKED)
    def admit(self, request: str, quotas: list[Quota]) -> None:
        verdict = self.same("admit", request=request, quotas=quotas)
        self.ran["admitted" if verdict.admitted else "refused"] += 1

    @rule(requests=st.lists(REQUESTS, min_size=2, max_size=6), kind=COUNTED, amount=st.integers(1, 3))
    def several_meet_one_quota(self, requests: list[str], kind: Kind, amount: int) -> None:
        """Rare by chance: a quota that is reached, drained a little, and reached again."""
        for request in requests:
            self.same("admit", request=request, quotas=[Quota("t:a", kind, 5, amount)])
            self.whole_state_is_equal()
            self.now += 700

    @rule(request=REQUESTS, spent=SPENT)
    def release(self, request: str, spent: dict[str, int] | None) -> None:
        self.ran["released"] += self.same("release", request=request, spent=spent)

    @rule(limit=st.integers(1, 3), later_ms=st.sampled_from([0, HOLD_MS, HELD_FOR_MS]))
    def lapse(self, limit: int, later_ms: int) -> None:
        self.now += later_ms
        self.ran["lapsed"] += len(self.same("lapse", limit=limit))

    @rule(request=REQUESTS, admitted=st.booleans(), attempts=st.integers(1, 2), ttl_ms=st.sampled_from([0, 5_000]))
    def submit(self, request: str, admitted: bool, attempts: int, ttl_ms: int) -> None:
        self.number += 1
        more = {"task": request, "tenant": "a", "ttl_ms": ttl_ms, "max_attempts": attempts, "admitted": admitted}
        self.same("submit", **submission(f"tag{self.number}", **more))

    @rule(request=REQUESTS, quotas=ASKED, fence=st.sampled_from([None, None, 0, 7]))
    def offer(self, request: str, quotas: list[Quota], fence: int | None) -> None:
        self.number += 1
        message = submission(f"tag{self.number}", task=request, tenant="a")
        verdict = self.same("offer", request=request, quotas=quotas, fence=fence, **message)
        self.ran["known" if verdict is None else "offered" if verdict.admitted else "turned away"] += 1

    @rule(lease_ms=st.sampled_from([1, 5_000]))
    def dispatch(self, lease_ms: int) -> None:
        picked = self.same("dispatch", lease_ms=lease_ms, holder="w", places=PLACES)
        if isinstance(picked, Delivery):
            self.deliveries.append((picked.tag, picked.fence))

    @rule(
        which=st.integers(0, 3),
        outcome=st.sampled_from(["done", "void", "requeue", "retry", "retry", "dead"]),
        spent=SPENT,
        breakers=st.lists(st.sampled_from(BREAKERS), max_size=2, unique=True),
    )
    def settle(self, which: int, outcome: Any, spent: dict[str, int] | None, breakers: list[str]) -> None:
        tag, fence = self.deliveries[max(-len(self.deliveries), -1 - which)]
        self.same("settle", tag=tag, fence=fence, outcome=outcome, spent=spent, breakers=breakers)

    @rule(request=REQUESTS)
    def withdraw(self, request: str) -> None:
        ours = self.scripts.withdraw(task=request, now_ms=self.now)
        assert ours == self.reference.withdraw(task=request)

    @rule(limit=st.integers(1, 3), later_ms=st.integers(0, 6_000))
    def reap(self, limit: int, later_ms: int) -> None:
        self.now += later_ms
        self.same("reap", limit=limit)

    @rule(request=REQUESTS)
    def replay(self, request: str) -> None:
        self.same("replay", task=request)

    @rule(
        names=st.lists(st.sampled_from(BREAKERS), min_size=1, max_size=2, unique=True),
        outcomes=st.lists(st.booleans(), min_size=1, max_size=4),
        step_ms=st.sampled_from([0, 100, 61_000]),
    )
    def observe(self, names: list[str], outcomes: list[bool], step_ms: int) -> None:
        for served in outcomes:
            self.now += step_ms
            self.same("observe", names=names, served=served)
            self.whole_state_is_equal()

    @rule(
        name=st.sampled_from(BREAKERS),
        ends=st.lists(st.booleans(), max_size=3),
        wait_ms=st.sampled_from([5_000, 9]),
        untried=st.booleans(),
    )
    def breaker_opens_and_is_probed(self, name: str, ends: list[bool], wait_ms: int, untried: bool) -> None:
        """Rare by chance: five faults in a row, the pause, then the door and the probes."""
        for _ in range(5):
            self.ran["opened"] += self.same("observe", names=[name], served=False) == ["open"]
        self.now += wait_ms
        quotas = [Quota(name, Kind.BREAKER, 0, 0), Quota("t:a", Kind.FLIGHT, 9, 1)]
        for number in range(3):
            self.same("admit", request=f"probe-{number}", quotas=quotas)
            self.whole_state_is_equal()
        for served in ends:
            self.same("observe", names=[name], served=served)
            self.whole_state_is_equal()
        if untried:
            self.now += UNTRIED_MS + 1
            self.same("probe")

    @rule(
        kinds=st.lists(COUNTED, min_size=1, max_size=4, unique=True),
        jumps=st.lists(st.sampled_from([0, 300, 61_000, DAY_MS, -3 * DAY_MS, -3_600_000]), min_size=3, max_size=3),
        outcome=st.sampled_from(["done", "done", "void", "retry", "dead"]),
        spent=SPENT,
    )
    def a_request_is_let_in_runs_and_ends(
        self, kinds: list[Kind], jumps: list[int], outcome: Any, spent: dict[str, int] | None
    ) -> None:
        """Rare by chance: the same request at the door, in the order, with a worker, and at its end."""
        # Nothing else is to be picked.
        purged = self.scripts.purge(lane="vip.light", limit=99, now_ms=self.now)
        assert purged == self.reference.purge(lane="vip.light", limit=99)
        self.number += 1
        request, quotas = f"life-{self.number}", [Quota("c:vip", kind, 60_000, 3) for kind in kinds]
        self.same("admit", request=request, quotas=quotas)
        self.now = max(1, self.now + jumps[0])
        message = {"task": request, "tenant": "a", "max_attempts": 1 + self.number % 2, "admitted": True}
        self.same("submit", **submission(f"tag{self.number}", **message))
        self.now = max(1, self.now + jumps[1])
        self.same("lapse", limit=9)
        for _ in range(3):
            self.dispatch(5_000)
            self.same("admit", request=f"beside-{self.number}", quotas=quotas)
            self.whole_state_is_equal()
            tag, fence = self.deliveries[-1]
            self.same("settle", tag=tag, fence=fence, outcome=outcome, spent=spent)
            self.whole_state_is_equal()
        self.now = max(1, self.now + jumps[2])
        self.same("admit", request=f"after-{self.number}", quotas=quotas)

    @rule()
    def probe(self) -> None:
        self.same("probe")

    @rule(name=st.sampled_from(BREAKERS), for_ms=st.sampled_from([None, None, 0, 300, 10_000_000]))
    def trip(self, name: str, for_ms: int | None) -> None:
        self.same("trip", name=name, for_ms=for_ms)

    @rule(ms=JUMPS)
    def clock_moves(self, ms: int) -> None:
        self.now = max(1, self.now + ms)

    @rule(ms=st.integers(-5_000, 5_000), back=st.booleans())
    def clock_moves_to_the_end_of_time(self, ms: int, back: bool) -> None:
        self.now = 1_800_000_000_000 if back else LONGEST_MS + ms

    @rule(call=st.sampled_from(REFUSED))
    def refused_call(self, call: tuple[str, tuple[Any, ...]]) -> None:
        """An error, and nothing is changed."""
        name, arguments = call
        (answer,) = self.scripts.run([self.scripts.command(name, *arguments, now_ms=self.now)])
        assert isinstance(answer, redis.ResponseError), answer
        self.ran["illegal"] += 1

    @rule(
        quotas=st.sampled_from(
            [
                [Quota("t:a", Kind.TOKENS, -1, 0)],
                [Quota("t:a", Kind.TOKENS, 0, LARGEST_AMOUNT + 1)],
                [Quota("t:a", Kind.TOKENS, 1, 1), Quota("t:a", Kind.TOKENS, 2, 1)],
            ]
        )
    )
    def refused_quotas(self, quotas: list[Quota]) -> None:
        with pytest.raises(redis.ResponseError):
            self.scripts.admit(request="task-1", quotas=quotas, now_ms=self.now)
        with pytest.raises(ValueError, match="expected"):
            self.reference.admit(self.now, request="task-1", quotas=quotas)
        self.ran["illegal"] += 1

    @rule(spent=st.sampled_from([{"tokens": -1, "gpu_ms": 0}, {"tokens": 0, "gpu_ms": LARGEST_AMOUNT + 1}]))
    def refused_use(self, spent: dict[str, int]) -> None:
        with pytest.raises(redis.ResponseError):
            self.scripts.release(request="task-1", spent=spent, now_ms=self.now)
        with pytest.raises(ValueError, match="expected"):
            self.reference.release(self.now, request="task-1", spent=spent)
        with pytest.raises(ValueError, match="expected"):
            self.reference.settle(self.now, tag="tag1", fence=1, outcome="done", spent=spent)
        self.ran["illegal"] += 1

    @invariant()
    def whole_state_is_equal(self) -> None:
        if hasattr(self, "reference"):
            assert snapshots.of_redis(self.client, GROUP) == snapshots.of_reference(self.reference)

    @invariant()
    def what_is_in_flight_is_what_is_held(self) -> None:
        if not hasattr(self, "reference"):
            return
        held: Counter[Any] = Counter()
        for accounts in self.reference.door.holds.values():
            held.update({account: each.amount for account, each in accounts.items()})
        for (kind, name), use in self.reference.door.used.items():
            if kind in (Kind.FLIGHT, Kind.QUEUE):
                assert use.amount == held[kind, name]


@pytest.mark.timeout(3600)
def test_the_door_matches_its_reference(redis_client: redis.Redis) -> None:
    """TEST_STEPS sets how many commands are run in all (default 2,500)."""
    steps = int(os.environ.get("TEST_STEPS", "2500"))
    ran: Counter[str] = Counter()
    machine = type("Machine", (DoorMachine,), {"client": redis_client, "ran": ran})
    rounds = 0
    while ran.total() < steps or not all(
        ran[each] for each in ("admitted", "refused", "offered", "known", "released", "lapsed", "opened", "illegal")
    ):
        rounds += 1
        assert rounds <= MOST_ROUNDS, f"only {dict(ran)}"
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=max(1, steps // 100),
                stateful_step_count=50,
                deadline=None,
                derandomize=False,
                # Shrinking a long history over a real server takes minutes; the history as found says enough.
                phases=[Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )

"""Can the listeners of one process together be given more attempts than fit, in any order of events?"""

from __future__ import annotations

from typing import Any, cast

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qosqueue.broker.leases import LeaseTable, receipt_of
from qosqueue.policy.reference.message import Delivery

CAPACITY = {"m": 2, "n": 1}
MODELS = ("", *CAPACITY)
LISTENERS = ("fast lane", "consumer", "another consumer")


class Listeners(RuleBasedStateMachine):
    """Listeners of one table. A broker that always has work may give each of them what it listens for, once."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(redis.Redis, "g", lease_ms=1_000, capacity=CAPACITY)
        # Its thread would renew leases at a broker that is not there.
        self.table._thread = cast(Any, object())
        self.armed: dict[str, frozenset[str]] = {}
        self.held: list[Delivery] = []
        self.freed: list[str] = []
        self.table.watch(self.freed.append)
        self.given = 0

    @rule(who=st.sampled_from(LISTENERS), models=st.sets(st.sampled_from(MODELS)))
    def listen(self, who: str, models: set[str]) -> None:
        """Once it has got nothing, a listener may listen for something else."""
        self.armed[who] = self.table.listen(who, models)
        assert self.armed[who] <= models
        assert "" not in models or "" in self.armed[who], "what has no model has no limit"

    @rule(who=st.sampled_from(LISTENERS))
    def stop(self, who: str) -> None:
        self.table.stop_listening(who)
        self.armed.pop(who, None)

    @precondition(lambda self: any(self.armed.values()))
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        """The broker answers one of those that listen."""
        who = data.draw(st.sampled_from([who for who, models in self.armed.items() if models]))
        model = data.draw(st.sampled_from(sorted(self.armed.pop(who))))
        self.given += 1
        delivery = Delivery(f"t{self.given}", 1, "lane", model, "task", 0, 0, "")
        self.table.hold(delivery, who)
        self.held.append(delivery)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        delivery = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        assert self.table.release(receipt_of(delivery)) == delivery
        assert self.freed.pop() == delivery.model
        assert self.table.release(receipt_of(delivery)) is None
        assert not self.freed

    @invariant()
    def never_more_than_fits(self) -> None:
        for model, limit in CAPACITY.items():
            held = sum(delivery.model == model for delivery in self.held)
            promised = sum(model in models for models in self.armed.values())
            assert held + promised <= limit

    @invariant()
    def a_free_slot_is_found(self) -> None:
        for model, limit in CAPACITY.items():
            held = sum(delivery.model == model for delivery in self.held)
            promised = sum(model in models for models in self.armed.values())
            assert self.table.has_slot(model) == (held + promised < limit)


TestListeners = Listeners.TestCase
TestListeners.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

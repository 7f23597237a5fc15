"""How does a test get a model whose engine fails, hangs or breaks off? Engines and faults are simulated.

Fixture `faulty`: makes roads whose model `sim` has a fault and whose fallback, `spare`, has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qosqueue.policy.breaker import Breaker, model_breaker
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import TaskType
from qosqueue.service.online import OnlineCall
from qosqueue.store.records import Tenant
from tests.support.broker import MakeSettings
from tests.support.road import Road

STEPS = {"step_ms": 1, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 8}

MakeFaulty = Callable[..., Road]


@pytest.fixture
def faulty(make_settings: MakeSettings) -> Iterator[MakeFaulty]:
    """Makes a road of that fault (options of the simulated engine); an engine that is silent for 300 ms has failed."""
    roads: list[Road] = []

    def make(*, fallback: str | None = "spare", **fault: Any) -> Road:
        road = Road(make_settings(lease_ms=2_000, sweep_ms=200, stall_ms=300))
        roads.append(road)
        road.model("spare")
        road.model(options=STEPS | fault, fallback_model=fallback)
        return road

    yield make
    for road in roads:
        road.close()


def call(road: Road, tenant: Tenant | None = None, **changes: Any) -> OnlineCall:
    """Start a synchronous request of a tenant (the road's own), streamed unless that is said; it must be accepted."""
    stream = changes.pop("stream", True)
    started = road.services.online.start(tenant or road.tenant, road.request(TaskType.ONLINE, stream=stream, **changes))
    assert not isinstance(started, Refusal), started
    return started


def holds(road: Road) -> int:
    """How many requests hold a part of any quota."""
    return int(road.services.redis.zcard(f"{road.services.scripts.key}:holds"))


def breaker(road: Road, model: str = "sim") -> Breaker | None:
    """What is held against a model; None: nothing."""
    return road.services.scripts.probe().get(model_breaker(model))

"""Does a request end alike whoever takes it, the fast lane or Celery's consumer: what it used, its tries, breakers?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from qosqueue.broker.leases import LEASE_LOST
from qosqueue.errors import EngineError, StoreUnavailable
from qosqueue.policy.breaker import State, model_breaker, replica_breaker
from qosqueue.policy.quota import Kind, Quota
from tests.support.broker import MakeSettings
from tests.support.eventually import eventually
from tests.support.fast_lane_world import MODEL, WITHIN_S, World

TENANT = "t:acme"


class Way:
    """A worker that takes requests one way only."""

    def __init__(self, world: World, *, lane: bool) -> None:
        self.world = world
        self.lane = lane
        self.scripts = world.scripts

    def serve(self, *names: str) -> None:
        """Admit and publish these, and work until nothing is left of any."""
        for name in names:
            quotas = [Quota(TENANT, Kind.FLIGHT, 9, 1), Quota(TENANT, Kind.DAY_TOKENS, 1_000, 50)]
            assert self.scripts.admit(request=name, quotas=quotas).admitted
            self.world.request(name)
        with self.world.working(lane=self.lane):
            eventually(self.world.empty, within_s=WITHIN_S)
        threads = {thread for name in names for thread in self.world.engine.threads_of(name)}
        assert (threads == {"fast-lane"}) == self.lane, "it was taken the other way"

    def used(self, kind: Kind) -> int:
        told: Any = self.scripts.client.get(f"{self.scripts.key}:used:{kind}:{TENANT}")
        return 0 if told is None else int(told.split(b":")[0])


@pytest.fixture(params=["lane", "consumer"])
def way(request: Any, make_settings: MakeSettings, redis_client: redis.Redis) -> Iterator[Way]:
    world = World(make_settings(), redis_client, slots=2)
    yield Way(world, lane=request.param == "lane")
    world.close()


def test_what_was_used_is_settled(way: Way) -> None:
    way.serve("a", "b")
    assert {word for _, word, _ in way.world.record.words} == {"finish"}
    assert (way.used(Kind.FLIGHT), way.used(Kind.DAY_TOKENS)) == (0, 4), "two tokens each, not the fifty estimated"


def test_a_failed_attempt_is_tried_again_and_its_breakers_hear_of_it(way: Way) -> None:
    way.world.engine.faults["a"] = [EngineError("once")]
    way.serve("a")
    # The next attempt may be quicker than the words of the first.
    assert sorted(way.world.record.words) == [("a", "finish", 2), ("a", "waits again", 1)]
    assert (way.used(Kind.FLIGHT), way.used(Kind.DAY_TOKENS)) == (0, 2)
    scores = {name: breaker.score for name, breaker in way.scripts.probe().items()}
    assert scores.keys() == {model_breaker(MODEL), replica_breaker("w", MODEL)}
    assert set(scores.values()) <= {2, 3}, "a fault and a service, in either order"


def test_after_its_last_attempt_it_has_failed_and_gets_everything_back(way: Way) -> None:
    way.world.engine.faults["a"] = [EngineError("again") for _ in range(3)]
    way.serve("a")
    assert sorted(way.world.record.words) == [("a", "fail", 3), ("a", "waits again", 1), ("a", "waits again", 2)]
    assert (way.used(Kind.FLIGHT), way.used(Kind.DAY_TOKENS)) == (0, 0)
    assert {breaker.score for breaker in way.scripts.probe().values()} == {9}
    assert not way.scripts.client.exists(f"{way.scripts.key}:mean32"), "what served nothing teaches nothing"


def test_breakers_open_after_faults_in_a_row(way: Way) -> None:
    for name in "ab":
        way.world.engine.faults[name] = [EngineError("again") for _ in range(3)]
    for name in "ab":
        way.world.request(name)
    with way.world.working(lane=way.lane):
        eventually(lambda: model_breaker(MODEL) in way.scripts.probe(), within_s=WITHIN_S)
        eventually(
            lambda: way.scripts.probe()[model_breaker(MODEL)].state in (State.OPEN, State.HALF_OPEN), within_s=WITHIN_S
        )


@pytest.mark.parametrize("reason", ["cancelled", LEASE_LOST])
def test_an_attempt_that_was_stopped_is_charged_and_tells_breakers_nothing(way: Way, reason: str) -> None:
    """Else clients that give up would close the breaker of an engine that hangs."""
    way.scripts.observe(names=[model_breaker(MODEL), replica_breaker("w", MODEL)], served=False)
    before = way.scripts.probe()
    assert len(before) == 2
    assert way.scripts.admit(request="a", quotas=[Quota(TENANT, Kind.DAY_TOKENS, 1_000, 50)]).admitted
    way.world.request("a", gated=True)
    with way.world.working(lane=way.lane):
        way.world.has_run("a")
        assert way.scripts.withdraw(task="a") == 2
        way.world.runner.stop("a", reason)
        eventually(way.world.empty, within_s=WITHIN_S)
    assert way.used(Kind.DAY_TOKENS) == 2
    assert way.scripts.probe() == before


def test_an_outcome_that_cannot_be_written_down_is_no_attempt(way: Way) -> None:
    way.world.engine.faults["a"] = [StoreUnavailable("away")]
    way.serve("a")
    assert way.world.record.words == [("a", "finish", 2)]
    assert (way.used(Kind.FLIGHT), way.used(Kind.DAY_TOKENS)) == (0, 2)
    assert way.scripts.probe() == {}

"""Does a request that nobody waits for free its place, although the broker was away when its client left?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from qosqueue.broker.publish import Publisher
from qosqueue.errors import BrokerUnavailable
from qosqueue.service import withdrawals as module
from qosqueue.service.withdrawals import Withdrawals
from tests.support.eventually import eventually
from tests.support.road import Road


class Flaky:
    """A broker that is away until the test says so; counts what was asked of it."""

    def __init__(self) -> None:
        self.away = True
        self.tries = 0
        self.taken: list[str] = []

    def withdraw(self, *, task: str) -> int:
        self.tries += 1
        if self.away:
            raise redis.ConnectionError("away")
        self.taken.append(task)
        return 1


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    return Flaky()


@pytest.fixture
def made(flaky: Any) -> Iterator[Withdrawals]:
    withdrawals = Withdrawals(flaky)
    yield withdrawals
    withdrawals.close()


def test_it_is_tried_until_the_broker_answers_and_then_no_more(flaky: Flaky, made: Withdrawals) -> None:
    made.add("one")
    made.add("two")
    eventually(lambda: flaky.tries >= 3, within_s=5)
    assert made.waiting() == 2
    flaky.away = False
    eventually(lambda: made.waiting() == 0, within_s=5)
    assert flaky.taken == ["one", "two"]


def test_the_oldest_is_given_up_when_too_many_wait(
    flaky: Flaky, made: Withdrawals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_MOST", 2)
    for task in ("one", "two", "three"):
        made.add(task)
    assert made.waiting() == 2
    flaky.away = False
    eventually(lambda: made.waiting() == 0, within_s=5)
    assert flaky.taken == ["two", "three"]


def test_closing_tries_once_more_and_ends_the_thread(flaky: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 60)
    withdrawals = Withdrawals(flaky)  # type: ignore[arg-type]
    withdrawals.add("one")
    flaky.away = False
    withdrawals.close()
    assert flaky.taken == ["one"]
    assert "withdrawals" not in {thread.name for thread in threading.enumerate()}


def test_a_client_that_left_while_the_broker_was_away_frees_its_place(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.model()
    call = road.call()
    scripts, failures = road.services.scripts, [redis.ConnectionError("away")]
    withdraw = scripts.withdraw

    def once_away(**arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return withdraw(**arguments)

    monkeypatch.setattr(scripts, "withdraw", once_away)
    call.close()
    assert road.depth() == 1
    eventually(lambda: road.depth() == 0, within_s=5)


def test_a_message_whose_sender_was_told_503_leaves_the_queue(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis took it, and only its answer was lost."""
    road.model()
    offer = Publisher.offer

    def answer_lost(self: Publisher, *arguments: Any, **named: Any) -> None:
        offer(self, *arguments, **named)
        raise BrokerUnavailable("the answer was lost")

    monkeypatch.setattr(Publisher, "offer", answer_lost)
    with pytest.raises(BrokerUnavailable):
        road.call()
    assert road.depth() == 1
    eventually(lambda: road.depth() == 0, within_s=5)

"""Is an answer given again only while it is fresh, and the last known one only while the record is away?"""

from __future__ import annotations

import pytest

from qosqueue.errors import StoreUnavailable
from qosqueue.store.last_known import LastKnown
from tests.support.manual_clock import ManualClock


class Record:
    """Answers from a dict, counts the questions, and can be away."""

    def __init__(self) -> None:
        self.rows = {"a": "first"}
        self.asked = 0
        self.away = False

    def __call__(self, key: str) -> str | None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        return self.rows.get(key)


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def answers(record: Record, clock: ManualClock) -> LastKnown[str, str]:
    return LastKnown(record, monotonic_ms=clock, keep_ms=2_000, max_entries=2)


def test_asks_again_when_the_time_is_up_and_not_before(
    answers: LastKnown[str, str], record: Record, clock: ManualClock
) -> None:
    assert answers.get("a") == "first"
    record.rows["a"] = "second"
    clock.ms += 1_999
    assert answers.get("a") == "first"
    assert record.asked == 1
    clock.ms += 1
    assert answers.get("a") == "second"


def test_age_counts_from_the_question_not_from_the_answer(record: Record, clock: ManualClock) -> None:
    def slow(key: str) -> str | None:
        clock.ms += 1_500
        return record(key)

    answers = LastKnown(slow, monotonic_ms=clock, keep_ms=2_000)
    answers.get("a")
    clock.ms += 500
    answers.get("a")
    assert record.asked == 2


def test_none_is_asked_for_again(answers: LastKnown[str, str], record: Record) -> None:
    assert answers.get("b") is None
    record.rows["b"] = "made since"
    assert answers.get("b") == "made since"


def test_what_is_gone_is_forgotten_and_does_not_come_back(
    answers: LastKnown[str, str], record: Record, clock: ManualClock
) -> None:
    answers.get("a")
    del record.rows["a"]
    clock.ms += 2_000
    assert answers.get("a") is None
    record.away = True
    with pytest.raises(StoreUnavailable):
        answers.get("a")


def test_last_known_answer_serves_while_the_record_is_away_and_is_asked_for_once_in_the_time(
    answers: LastKnown[str, str], record: Record, clock: ManualClock
) -> None:
    answers.get("a")
    record.away = True
    clock.ms += 300_000
    assert [answers.get("a") for _ in range(50)] == ["first"] * 50
    assert record.asked == 2
    record.away = False
    record.rows["a"] = "back"
    clock.ms += 2_000
    assert answers.get("a") == "back"


def test_unknown_while_the_record_is_away_raises(answers: LastKnown[str, str], record: Record) -> None:
    record.away = True
    with pytest.raises(StoreUnavailable):
        answers.get("a")


def test_forget_asks_again_at_once(answers: LastKnown[str, str], record: Record) -> None:
    answers.get("a")
    record.rows["a"] = "second"
    answers.forget()
    assert answers.get("a") == "second"


def test_an_answer_on_its_way_during_a_change_is_not_kept(record: Record, clock: ManualClock) -> None:
    def overtaken(key: str) -> str | None:
        answer = record(key)
        if record.asked == 1:
            record.rows["a"] = "second"
            overtaken_answers.forget()
        return answer

    overtaken_answers: LastKnown[str, str] = LastKnown(overtaken, monotonic_ms=clock)
    assert overtaken_answers.get("a") == "first"
    assert overtaken_answers.get("a") == "second"


def test_never_keeps_more_than_it_may(answers: LastKnown[str, str], record: Record) -> None:
    record.rows = {name: name for name in "abc"}
    for name in "abc":
        answers.get(name)
    assert record.asked == 3
    answers.get("b")
    answers.get("c")
    assert record.asked == 3
    answers.get("a")
    assert record.asked == 4

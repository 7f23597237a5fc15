"""Is every request that ended written, at once where it must be, even if something of it cannot be told?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.exc import DataError

from qosqueue.errors import StoreUnavailable
from qosqueue.service.finished import FinishedRequests
from qosqueue.store.decisions import Decision, DecisionKind
from tests.support.eventually import eventually


class Record:
    """The table of jobs; the first writes meet these faults."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.ids: list[str] = []
        self.told: dict[str, Sequence[Decision]] = {}

    def insert(self, rows: list[dict[str, Any]], told: dict[str, Sequence[Decision]]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.told |= told
        self.ids += [row["id"] for row in rows]


def test_it_is_there_when_add_returns() -> None:
    record = Record()
    finished = FinishedRequests(record, lambda ended: False)  # type: ignore[arg-type]
    finished.add({"id": "job_1"}, at_once=True)
    assert record.ids == ["job_1"]
    assert finished._thread is None


def test_with_sql_away_it_waits_like_all_others() -> None:
    record = Record(StoreUnavailable("away"))
    finished = FinishedRequests(record, lambda ended: False)  # type: ignore[arg-type]
    finished.add({"id": "job_1"}, at_once=True)
    eventually(lambda: record.ids == ["job_1"], within_s=10)
    finished.close()


def test_a_row_that_sql_does_not_take_is_not_tried_again() -> None:
    record = Record(DataError("", {}, Exception()))
    finished = FinishedRequests(record, lambda ended: False)  # type: ignore[arg-type]
    finished.add({"id": "job_1"}, at_once=True)
    finished.add({"id": "job_2"}, at_once=True)
    assert record.ids == ["job_2"]


SAID = Decision(DecisionKind.ADMITTED, 1, {"tokens": 1})


def _not_to_be_made() -> Decision:
    raise ValueError("written by a worker of another version")


@pytest.mark.parametrize("at_once", [True, False])
def test_what_cannot_be_put_into_words_is_left_out_alone(at_once: bool, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record()
    finished = FinishedRequests(record, lambda ended: False)  # type: ignore[arg-type]
    finished.add({"id": "job_1"}, [lambda: SAID, _not_to_be_made, lambda: SAID], at_once=at_once)
    eventually(lambda: record.ids == ["job_1"], within_s=10)
    # The thread that writes lives.
    finished.add({"id": "job_2"}, [lambda: SAID])
    eventually(lambda: record.ids == ["job_1", "job_2"], within_s=10)
    finished.close()
    assert record.told == {"job_1": [SAID, SAID], "job_2": [SAID]}
    told = capsys.readouterr().out
    assert "a decision is not recorded" in told
    assert "job_1" in told

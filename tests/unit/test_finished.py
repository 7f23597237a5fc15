"""Is a request that must be found at once written at once, and never lost for it?"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DataError

from qosqueue.errors import StoreUnavailable
from qosqueue.service.finished import FinishedRequests
from tests.support.eventually import eventually


class Record:
    """The table of jobs; the first writes meet these faults."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.ids: list[str] = []

    def insert(self, rows: list[dict[str, Any]], told: Any) -> None:
        if self.faults:
            raise self.faults.pop(0)
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

"""Do ids tell what they name, and do records carry every column of their row?"""

from __future__ import annotations

import dataclasses
import re

import pytest

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import TaskType
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.records import AuditEntry, Job, Model, Override, PolicyVersion, Scenario, Tenant, job_of
from qosqueue.store.tables import (
    AuditRow,
    Base,
    JobRow,
    ModelRow,
    OverrideRow,
    PolicyVersionRow,
    ScenarioRow,
    TenantRow,
)


def test_ids_are_random_and_named() -> None:
    ids = {new_id("job") for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(re.fullmatch(r"job_[0-9a-f]{24}", each) for each in ids)


def test_clocks_are_milliseconds() -> None:
    assert now_ms() > 1_600_000_000_000
    assert monotonic_ms() <= monotonic_ms()


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (Tenant, TenantRow),
        (Model, ModelRow),
        (Override, OverrideRow),
        (Scenario, ScenarioRow),
        (PolicyVersion, PolicyVersionRow),
        (Job, JobRow),
        (AuditEntry, AuditRow),
    ],
)
def test_a_record_has_the_fields_of_its_row(record: type, row: type[Base]) -> None:
    assert [field.name for field in dataclasses.fields(record)] == [column.name for column in row.__table__.columns]


def test_a_job_record_has_status_and_task_type_as_words() -> None:
    columns: dict[str, object] = {column.name: None for column in JobRow.__table__.columns}
    job = job_of(JobRow(**columns | {"status": "queued", "task_type": "batch"}))
    assert job.status is JobStatus.QUEUED
    assert job.task_type is TaskType.BATCH

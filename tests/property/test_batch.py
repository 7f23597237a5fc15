"""Is the table of batches sound, and does every end of a job mean something for its line?"""

from __future__ import annotations

from itertools import product

import pytest

from qosqueue.policy.batch import (
    BATCH_TRANSITIONS,
    ENDED_BATCHES,
    BatchEvent,
    BatchStatus,
    LineState,
    batch_sources,
    batch_target,
    line_after,
)
from qosqueue.policy.lifecycle import TERMINAL, JobStatus


def test_an_event_leads_to_one_status() -> None:
    for event in BatchEvent:
        targets = {moves[event] for moves in BATCH_TRANSITIONS.values() if event in moves}
        assert targets == {batch_target(event)}
        assert batch_sources(event) == {status for status, moves in BATCH_TRANSITIONS.items() if event in moves}


def test_every_status_is_reached_and_ends_somewhere() -> None:
    reached = {BatchStatus.VALIDATING}
    while more := {to for status in reached for to in BATCH_TRANSITIONS[status].values()} - reached:
        reached |= more
    assert reached == set(BatchStatus) == set(BATCH_TRANSITIONS)
    assert {"completed", "failed", "expired", "cancelled"} == ENDED_BATCHES


@pytest.mark.parametrize(("job", "batch", "over"), list(product(JobStatus, BatchStatus, (False, True))))
def test_a_line_ends_with_its_job(job: JobStatus, batch: BatchStatus, over: bool) -> None:
    state = line_after(job, batch, window_over=over)
    assert (state is None) == (job not in TERMINAL)
    if job is JobStatus.CANCELLED:
        late = over and batch is not BatchStatus.CANCELLING
        assert state is (LineState.EXPIRED if late else LineState.CANCELLED)
    elif job in (JobStatus.FAILED, JobStatus.REJECTED):
        assert state is LineState.FAILED

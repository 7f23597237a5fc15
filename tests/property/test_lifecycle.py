"""Can a job do only what its table allows, and does each ending end it for good?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.lifecycle import TERMINAL, TRANSITIONS, JobEvent, JobStatus, sources, target

HAPPENING = st.sampled_from([event for event in JobEvent if event is not JobEvent.REPLAYED])
EVENTS = st.lists(HAPPENING, max_size=30)


@given(EVENTS)
def test_a_job_ends_at_most_once(events: list[JobEvent]) -> None:
    status, endings = JobStatus.ACCEPTED, 0
    for event in events:
        if status in sources(event):
            status = target(event)
            endings += status in TERMINAL
    assert endings <= 1


@given(st.sampled_from(JobStatus), st.sampled_from(JobEvent))
def test_sources_and_target_are_the_table(status: JobStatus, event: JobEvent) -> None:
    assert TRANSITIONS[status].get(event) == (target(event) if status in sources(event) else None)


def test_every_status_has_its_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(JobStatus)
    reached = {JobStatus.ACCEPTED}
    for _ in JobStatus:
        reached |= {target for status in reached for target in TRANSITIONS[status].values()}
    assert reached == set(JobStatus)


def test_an_event_leads_to_one_status_wherever_it_happens() -> None:
    """The record relies on it: its UPDATE sets the target without reading the row first."""
    for event in JobEvent:
        assert len({moves[event] for moves in TRANSITIONS.values() if event in moves}) == 1


def test_every_status_that_is_not_an_ending_leads_to_one() -> None:
    open_ended = set(JobStatus) - TERMINAL
    assert {JobStatus.ACCEPTED, JobStatus.QUEUED, JobStatus.RUNNING} == open_ended
    for status in open_ended:
        assert {JobStatus.CANCELLED, JobStatus.EXPIRED} <= set(TRANSITIONS[status].values())


def test_only_a_failure_is_replayed_and_nothing_else_leaves_an_ending() -> None:
    assert sources(JobEvent.REPLAYED) == {JobStatus.FAILED}
    assert {event for status in TERMINAL for event in TRANSITIONS[status]} == {JobEvent.REPLAYED}


def test_a_result_is_stored_only_while_an_attempt_runs() -> None:
    assert sources(JobEvent.FINISHED) == {JobStatus.RUNNING}

"""How does a job become a dead letter? Its worker is lost at each of its attempts."""

from __future__ import annotations

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.store.records import Job
from tests.support.eventually import eventually
from tests.support.road import Road

PLACES = [("vip.light", "sim")]


def kill(road: Road, job: Job) -> None:
    """Lose the worker of each attempt, until the job is a dead letter."""
    services = road.services
    for attempt in range(1, 4):
        found = services.scripts.dispatch(lease_ms=1, holder="test", places=PLACES)
        assert isinstance(found, Delivery)
        assert services.attempts.begin(found.task, found.fence, "w") is not None
        what = "dead" if attempt == 3 else "requeued"
        eventually(lambda what=what: services.watchdog.reap().outcome[what], within_s=5)
    assert road.job(job).status is JobStatus.FAILED

"""Which queues does a page show when no broker is there? Those that the test sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from qosqueue.broker.replicas import LiveReplica, Replica, ReplicaState
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.terms import LANES
from qosqueue.service.queues import LaneView

NOW_MS = 1_700_000_000_000


def lane(
    name: str,
    depth: int = 0,
    oldest_wait_ms: int | None = None,
    in_flight: int = 0,
    relegated: int = 0,
    dead: int = 0,
) -> LaneView:
    """A lane, empty unless told otherwise."""
    return LaneView(name, depth, oldest_wait_ms, in_flight, relegated, batch=0, later=0, dead=dead)


def replica(
    worker: str,
    model: str,
    slots: int = 1,
    busy: int = 0,
    gpu: str | None = None,
    seen_ms_ago: int = 400,
    state: ReplicaState = ReplicaState.READY,
) -> LiveReplica:
    """A replica, ready and just heard of unless told otherwise."""
    return LiveReplica(Replica(worker, model, slots, busy, gpu, state, pid=1), 0, NOW_MS - seen_ms_ago, seen_ms_ago)


@dataclass
class FakeQueues:
    """The lanes and replicas of the test; with `outage` set, reading them raises BrokerUnavailable with that text."""

    lane_views: list[LaneView] = field(default_factory=lambda: [lane(name) for name in LANES])
    replica_views: list[LiveReplica] = field(default_factory=list)
    outage: str | None = None

    def lanes(self) -> list[LaneView]:
        """The lanes."""
        self._fail_if_out()
        return self.lane_views

    def replicas(self) -> list[LiveReplica]:
        """The replicas."""
        self._fail_if_out()
        return self.replica_views

    def _fail_if_out(self) -> None:
        if self.outage is not None:
            raise BrokerUnavailable(self.outage)

"""What waits, what runs and where, right now?

With the broker away the page says since when, and shows the last figures that it had, marked as old.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from flask import Blueprint, render_template

from qosqueue.broker.replicas import LiveReplica
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.terms import LANES
from qosqueue.service.queues import LaneView, Queues
from qosqueue.store.clock import now_ms

POLL_MS = 2_000
# Two heartbeats missed; after three the registry has forgotten the replica.
SILENT_AFTER_MS = 6_000


def mount(pages: Blueprint, queues: Queues) -> None:
    """Add the page and the fragment that it polls."""
    board = Board(queues)

    def page() -> str:
        return render_template(
            "admin/queues.html",
            snapshot=board.read(),
            silent_after_ms=SILENT_AFTER_MS,
            poll_ms=POLL_MS,
            purgeable=LANES,
        )

    def live() -> str:
        return render_template(
            "admin/_live.html", snapshot=board.read(), silent_after_ms=SILENT_AFTER_MS, purgeable=LANES
        )

    pages.add_url_rule("/queues", "queues", page)
    pages.add_url_rule("/queues/live", "queues_live", live)


@dataclass(frozen=True)
class Snapshot:
    """Lanes and replicas at `taken_ms` (None: never seen); `down_since_ms` is None while the broker answers."""

    lanes: tuple[LaneView, ...] = ()
    replicas: tuple[LiveReplica, ...] = ()
    taken_ms: int | None = None
    down_since_ms: int | None = None
    reason: str = ""

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return sum(lane.depth for lane in self.lanes)

    @property
    def in_flight(self) -> int:
        """Requests that run."""
        return sum(lane.in_flight for lane in self.lanes)

    @property
    def oldest_wait_ms(self) -> int | None:
        """The longest wait of all lanes, None when nothing waits."""
        return max((lane.oldest_wait_ms for lane in self.lanes if lane.oldest_wait_ms is not None), default=None)

    @property
    def slots(self) -> int:
        """Slots of all replicas."""
        return sum(live.replica.slots for live in self.replicas)

    @property
    def busy(self) -> int:
        """Slots in use."""
        return sum(live.replica.busy for live in self.replicas)


class Board:
    """The latest snapshot, shared by the visitors of one process."""

    def __init__(self, queues: Queues, clock_ms: Callable[[], int] = now_ms) -> None:
        self._queues = queues
        self._clock_ms = clock_ms
        self._last = Snapshot()
        self._lock = Lock()

    def read(self) -> Snapshot:
        """Ask the broker; without it, the last snapshot with the time of the first failure since."""
        try:
            lanes, replicas = tuple(self._queues.lanes()), tuple(self._queues.replicas())
        except BrokerUnavailable as error:
            with self._lock:
                since_ms = self._last.down_since_ms or self._clock_ms()
                self._last = replace(self._last, down_since_ms=since_ms, reason=str(error))
                return self._last
        with self._lock:
            self._last = Snapshot(lanes, replicas, taken_ms=self._clock_ms())
            return self._last

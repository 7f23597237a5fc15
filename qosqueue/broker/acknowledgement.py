"""How does what a channel delivered end? By its lease: acknowledged, refused, given back.

Private names of Kombu 5.7 are used; tests/contract/test_kombu_names.py notices when they change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.transport import redis as stock
from kombu.transport import virtual

if TYPE_CHECKING:
    from qosqueue.broker.transport import Channel


class QoS(stock.QoS):
    """Acknowledgement by lease: nothing is written at delivery, and every settle shows its fence."""

    channel: Channel

    def can_consume(self) -> bool:
        """Whether a slot is free for anything this channel consumes."""
        return bool(super().can_consume()) and bool(self.channel.wants_more())

    def append(self, message: Any, delivery_tag: str) -> None:
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        self._settle(delivery_tag, "done")

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        # Without requeueing a rejected message is a dead letter: nothing that was accepted is thrown away.
        self._settle(delivery_tag, "requeue" if requeue else "dead")

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        self.channel.leases.settle(tag, "requeue")

    def restore_unacked(self, client: Any = None) -> None:
        for tag in list(self._delivered):
            self.restore_by_tag(tag)
        self._delivered.clear()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what is unsettled when a channel closes, except the attempts that run on."""
        if self.channel.celery is None:
            super().restore_unacked_once(stderr)
            return
        self._on_collect.cancel()
        self._flush()
        if self._delivered:
            self.channel.leases.give_back_idle(self._delivered, self.channel.celery.runs_on)
        self._delivered.clear()

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        """Queue lost leases again, unless somebody else sweeps them (`reaps`)."""
        if self.channel.reaps:
            self.channel.reap()

    def _settle(self, tag: str, outcome: Any) -> None:
        self.channel.leases.settle(tag, outcome)
        self._quick_ack(tag)
        self.channel.slot_freed()

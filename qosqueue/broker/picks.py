"""How does a holder wait for its next message? A blocking read of bells and the dispatch script, in one write.

The server holds the second command until the first returns, so a message is picked and leased the moment it may run,
and one answer brings it. Celery's consumer (transport.py) and the fast lane (workers/fast_lane.py) both wait this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis

from qosqueue.broker.library import is_missing
from qosqueue.broker.scripts import Scripts, bell_key, dispatch_arguments, to_picked
from qosqueue.broker.wire import Command
from qosqueue.policy.reference.message import Delivery, Nothing, Place

OWN_BELL_KEPT_MS = 10_000

Rung = tuple[bytes, bytes]


class Picks:
    """The picks of one holder. `own_bell` is the list that wakes it alone."""

    def __init__(self, scripts: Scripts, holder: str, *, lease_ms: int) -> None:
        self._scripts = scripts
        self._holder = holder
        self._lease_ms = lease_ms
        self.own_bell = f"{scripts.key}:bell:of:{holder}"

    def wait(self, places: Sequence[Place], block_s: float, lists: Iterable[str] = ()) -> list[Command]:
        """The two commands that wait for `places` (and for other lists) and pick; `block_s` 0 blocks for ever."""
        bells = [bell_key(self._scripts.key, place) for place in places]
        pick = dispatch_arguments(self._lease_ms, self._holder, places)
        return [("BRPOP", self.own_bell, *bells, *lists, block_s), self._scripts.command("dispatch", *pick)]

    def answer(
        self, read: Callable[[str], Any], places: Callable[[], Sequence[Place]]
    ) -> tuple[Rung | None, Delivery | Nothing]:
        """The answers to `wait`: which list woke us, and the message that was leased to us.

        `read` takes the next answer, of the command that it is given; `places` are asked for if the script has to be
        sent again.
        """
        rung, refused = None, None
        try:
            rung = read("BRPOP")
        except redis.ResponseError as error:
            # The second answer is on its way all the same: left unread, it would pass for the next one's.
            refused = error
        try:
            picked = to_picked(read("FCALL"))
        except redis.ResponseError as error:
            if not is_missing(error):
                raise
            # The first call of all, or after FUNCTION FLUSH. The bell was used up: pick now, not with the next ring.
            picked = self.now(places())
        if refused is not None and isinstance(picked, Nothing):
            raise refused
        return rung, picked

    def now(self, places: Sequence[Place]) -> Delivery | Nothing:
        """Pick without waiting."""
        return self._scripts.dispatch(lease_ms=self._lease_ms, holder=self._holder, places=places)

    def wake(self) -> None:
        """End the wait of this holder, from any thread. Raises redis.RedisError; the wait then ends by its time-out."""
        # It ends with its holder: nobody else reads it.
        self._scripts.wire.exchange([("RPUSH", self.own_bell, "1"), ("PEXPIRE", self.own_bell, OWN_BELL_KEPT_MS)])

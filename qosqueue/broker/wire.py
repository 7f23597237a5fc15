"""How do commands get to Redis with the least ado? Several in one write, on connections that are kept at hand.

redis-py's clients spend more than twice as long on a command as the connections below them (docs/adr/0008). What is
sent for every request goes this way; everything else uses the client.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import hiredis
import redis

Command = tuple[Any, ...]
Exchange = Callable[[Sequence[Command]], list[Any]]

# A connection that was used so short a time ago is taken to be open still; asking costs as much as a small command.
FRESH_S = 0.2
# Several commands of no more than this go as one piece.
SENT_WHOLE_BYTES = 6_000


class Wire:
    """Exchanges with one Redis. From any thread: each exchange has a connection to itself while it lasts.

    Connections come from the client's pool, with all its settings, and end when the pool is closed.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        # With the instant of its last use, the most recent last.
        self._idle: deque[tuple[Any, float]] = deque()
        self._process = os.getpid()

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in order; an error that Redis answered with is one of them, as redis.ResponseError.

        Raises redis.RedisError if Redis is away: then nobody knows which commands were carried out.
        """
        connection = self._take()
        packed = packed_commands(commands)
        try:
            try:
                connection.send_packed_command([packed], check_health=False)
            except redis.ConnectionError:
                if len(commands) > 1 and len(packed) > SENT_WHOLE_BYTES:
                    raise
                # It was closed while it was idle. One command is carried out only if it was heard whole, and a few
                # small ones an empty buffer takes whole: nobody heard. Of more some may have been carried out. A server
                # that is away fails again.
                connection.send_packed_command([packed], check_health=False)
            return [answer_of(connection) for _ in commands]
        except BaseException:
            # Answers that were not read would pass for those of the next exchange.
            connection.disconnect()
            raise
        finally:
            self._idle.append((connection, monotonic()))

    def _take(self) -> Any:
        if self._process != os.getpid():
            # A forked child must not speak on its parent's connections.
            self._idle, self._process = deque(), os.getpid()
        try:
            connection, used_at_s = self._idle.pop()
        except IndexError:
            return self._pool.get_connection()
        if monotonic() - used_at_s > FRESH_S:
            revive(connection)
        return connection


def packed_commands(commands: Sequence[Command]) -> bytes:
    """Commands as they are sent; redis-py's own packer looks at every argument once more. Arguments are text, bytes and
    numbers."""
    return b"".join(map(hiredis.pack_command, commands))


def answer_of(connection: Any) -> Any:
    """The next answer on a connection; an error that Redis answered with is returned, not raised."""
    try:
        return connection.read_response()
    except redis.ResponseError as refused:
        return refused


def revive(connection: Any) -> None:
    """Make an idle connection fit for use: one that was closed meanwhile is opened again at the first command."""
    try:
        stale = connection.can_read()
    except redis.ConnectionError:
        stale = True
    if stale:
        connection.disconnect()

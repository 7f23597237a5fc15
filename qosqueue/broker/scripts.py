"""How does Python call the queue's commands? One method for each Lua script, with its twin's arguments and results.

`now_ms` is None outside tests and simulations: the server's clock counts (docs/adr/0004).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

import redis
from redis.exceptions import NoScriptError

from qosqueue.broker.wire import Command, Wire
from qosqueue.policy.reference.message import Delivery, Reaped

Place = tuple[str, str]

NAMES = ("submit", "dispatch", "renew", "settle", "withdraw", "rerank", "reap", "purge")


@cache
def source(name: str) -> str:
    """The full text of a script: its `#!` line if it has one, the prelude, its own lines."""
    folder = resources.files("qosqueue.broker").joinpath("lua")
    own = folder.joinpath(f"{name}.lua").read_text("utf-8")
    prelude = folder.joinpath("prelude.lua").read_text("utf-8")
    if own.startswith("#!"):
        flags, _, own = own.partition("\n")
        return f"{flags}\n{prelude}\n{own}"
    return f"{prelude}\n{own}"


@cache
def sha_of(name: str) -> str:
    """SHA-1 of a script, by which EVALSHA names it."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


@cache
def _names_by_sha() -> dict[str, str]:
    return {sha_of(name): name for name in (*NAMES, "reply")}


class Scripts:
    """The commands of one group on one Redis. Calls are atomic; they raise redis.RedisError when Redis is away.

    After SCRIPT FLUSH or a failover the next call loads its script again.
    """

    def __init__(self, client: redis.Redis, group: str) -> None:
        self.client = client
        self.group = group
        self.key = f"{{{group}}}"
        self.wire = Wire(client)

    def submit(
        self,
        *,
        tag: str,
        task: str,
        lane: str,
        model: str,
        band: int,
        budget_ms: int,
        ttl_ms: int,
        max_attempts: int,
        payload: str | bytes,
        now_ms: int | None = None,
    ) -> int:
        """Queue one message; its position in its lane and model (1 is next), or 0 if the tag is known."""
        return int(self._call("submit", now_ms, tag, task, lane, model, band, budget_ms, ttl_ms, max_attempts, payload))

    def dispatch(
        self, *, lease_ms: int, holder: str, aged_one_in: int, places: Sequence[Place], now_ms: int | None = None
    ) -> Delivery | None:
        """Lease the first message of `places` to `holder`, or None if none is queued."""
        return to_delivery(self._call("dispatch", now_ms, *dispatch_arguments(lease_ms, holder, aged_one_in, places)))

    def renew(self, *, lease_ms: int, leases: Iterable[tuple[str, int]], now_ms: int | None = None) -> list[int]:
        """For each (tag, fence): 0 lost, 1 held, 2 held but cancelled by its tenant."""
        flat = [part for lease in leases for part in lease]
        return [int(answer) for answer in self._call("renew", now_ms, lease_ms, *flat)]

    def settle(
        self, *, tag: str, fence: int, outcome: Literal["done", "requeue", "dead"], now_ms: int | None = None
    ) -> int:
        """End one attempt: 0 stale, 1 as asked, 2 was to be requeued but its tenant had cancelled it."""
        return int(self._call("settle", now_ms, tag, fence, outcome))

    def withdraw(self, *, task: str, now_ms: int | None = None) -> int:
        """Take a message back: 0 unknown, 1 it is gone, 2 it runs and its holder was told to stop."""
        return int(self._call("withdraw", now_ms, task))

    def rerank(self, *, lane: str, starves_after_ms: int, limit: int, now_ms: int | None = None) -> list[str]:
        """Let the oldest of a lane that starve into the aging lane; the task ids lifted."""
        return _texts(self._call("rerank", now_ms, lane, starves_after_ms, limit))

    def reap(self, *, limit: int, now_ms: int | None = None) -> Reaped:
        """Requeue lost leases (or call them dead), drop what expired in the queue."""
        requeued, dead, expired, withdrawn, fences = self._call("reap", now_ms, limit)
        return Reaped(
            requeued=tuple(_texts(requeued)),
            dead=tuple(_texts(dead)),
            expired=tuple(_texts(expired)),
            withdrawn=tuple(_texts(withdrawn)),
            fences=tuple(int(fence) for fence in fences),
        )

    def purge(self, *, lane: str, limit: int, now_ms: int | None = None) -> int:
        """Drop up to `limit` queued messages of a lane, oldest first; how many."""
        return int(self._call("purge", now_ms, lane, limit))

    def sha(self, name: str) -> str:
        """SHA-1 of a script, for callers that send EVALSHA themselves."""
        return sha_of(name)

    def load(self, name: str) -> None:
        """Put a script into the server's cache."""
        self.client.script_load(source(name))

    def command(self, name: str, *arguments: Any, now_ms: int | None = None) -> Command:
        """A call as a command, for callers that send several at once; `arguments` are the script's ARGV 2 and on."""
        return ("EVALSHA", sha_of(name), 1, self.key, "" if now_ms is None else now_ms, *arguments)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several calls in one write, as Wire.exchange gives them; scripts are loaded if need be."""
        answers = self.wire.exchange(commands)
        missing = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            for sha in {commands[place][1] for place in missing}:
                self.load(_names_by_sha()[sha])
            again = self.wire.exchange([commands[place] for place in missing])
            for place, answer in zip(missing, again, strict=True):
                answers[place] = answer
        return answers

    def _call(self, name: str, now_ms: int | None, *arguments: Any) -> Any:
        (answer,) = self.run([self.command(name, *arguments, now_ms=now_ms)])
        if isinstance(answer, redis.ResponseError):
            raise answer
        return answer


def dispatch_arguments(lease_ms: int, holder: str, aged_one_in: int, places: Sequence[Place]) -> list[Any]:
    """ARGV 2 and on of the dispatch script."""
    return [lease_ms, holder, aged_one_in, len(places), *(part for place in places for part in place)]


def to_delivery(answer: list[Any] | None) -> Delivery | None:
    """The dispatch script's answer as a value."""
    if answer is None:
        return None
    tag, fence, lane, model, task, lease_until, arrival, payload = answer
    return Delivery(
        tag=tag.decode(),
        fence=int(fence),
        lane=lane.decode(),
        model=model.decode(),
        task=task.decode(),
        lease_until=int(lease_until),
        arrival=int(arrival),
        payload=payload.decode(),
    )


def _texts(values: Iterable[bytes]) -> list[str]:
    return [value.decode() for value in values]

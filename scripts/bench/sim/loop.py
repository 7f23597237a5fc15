"""How does a rule drive a pool of slots through simulated time?

`run(rule, requests, server)` is the whole simulator: events of one millisecond (ends, then arrivals) are told to the
rule, then it is asked for work until it has none or no slot is free.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qosqueue.errors import QosqueueError
from scripts.bench.policies.interface import Policy, Request, Wait

NEVER = 1 << 62
NOT_STARTED = -1


class RuleBroken(QosqueueError):
    """A rule returned what it may not: a request twice, one that it rejected, or one that has not arrived."""


class Server(Protocol):
    """Slots, and how long a request holds one."""

    free: int
    next_end_ms: int
    """When the next running request ends as things stand; `NEVER` if none runs."""

    def start(self, now_ms: int, request: Request) -> None:
        """Give the request a slot; there is a free one."""

    def ended(self, now_ms: int) -> Iterable[Request]:
        """What has ended by now; its slots are free again."""


@dataclass(frozen=True)
class Outcome:
    """What became of each request, by its id: start and end in ms, `NOT_STARTED` if it never began."""

    requests: Sequence[Request]
    started_ms: array[int]
    ended_ms: array[int]
    rejected: int
    over_ms: int
    """When the last event was."""


def run(rule: Policy, requests: Sequence[Request], server: Server) -> Outcome:
    """Drive the rule through the requests (sorted by arrival, `id` is the position) until nothing happens any more.

    Raises RuleBroken if the rule returns a request that is not waiting.
    """
    started_ms = array("q", [NOT_STARTED]) * len(requests)
    ended_ms = array("q", [NOT_STARTED]) * len(requests)
    waiting = bytearray(len(requests))
    submit, pick, settle = rule.submit, rule.pick, rule.settle
    arrived, waits, rejected, now_ms, wake_ms = 0, 0, 0, 0, NEVER
    next_arrival_ms = requests[0].arrival_ms if requests else NEVER
    while True:
        soonest_ms = min(next_arrival_ms, server.next_end_ms, wake_ms)
        if soonest_ms == NEVER:
            return Outcome(requests, started_ms, ended_ms, rejected, now_ms)
        now_ms, wake_ms = soonest_ms, NEVER
        if server.next_end_ms <= now_ms:
            for request in server.ended(now_ms):
                ended_ms[request.id] = now_ms
                settle(now_ms, request, now_ms - started_ms[request.id])
        while next_arrival_ms <= now_ms:
            request = requests[arrived]
            if submit(now_ms, request):
                waiting[arrived] = 1
                waits += 1
            else:
                rejected += 1
            arrived += 1
            next_arrival_ms = requests[arrived].arrival_ms if arrived < len(requests) else NEVER
        while waits and server.free:
            picked = pick(now_ms, server.free)
            if picked is None:
                break
            if isinstance(picked, Wait):
                wake_ms = now_ms + max(1, picked.retry_after_ms)
                break
            if not waiting[picked.id]:
                raise RuleBroken(f"request {picked.id} was picked at {now_ms} ms, but it does not wait")
            waiting[picked.id] = 0
            waits -= 1
            started_ms[picked.id] = now_ms
            server.start(now_ms, picked)

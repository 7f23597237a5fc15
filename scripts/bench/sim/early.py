"""What if a request is bound to a replica when it arrives, as a router in front of engines does?

Join the shortest queue: the replica with the fewest requests, waiting and running, at the instant of arrival (ties: the
next one round robin). Each replica orders its own queue by its own instance of a rule.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence

from scripts.bench.policies.interface import Policy, Request, Wait
from scripts.bench.sim.loop import NEVER, NOT_STARTED, Outcome


class _Replica:
    __slots__ = ("free", "load", "rule", "waits")

    def __init__(self, rule: Policy, slots: int) -> None:
        self.rule = rule
        self.free = slots
        self.load = 0
        self.waits = 0


def run_early(rules: Sequence[Policy], requests: Sequence[Request], slots_each: int) -> Outcome:
    """Drive one rule a replica through the requests, each bound at its arrival; service times are fixed."""
    replicas = [_Replica(rule, slots_each) for rule in rules]
    started_ms = array("q", [NOT_STARTED]) * len(requests)
    ended_ms = array("q", [NOT_STARTED]) * len(requests)
    events: list[tuple[int, int, int, int]] = []  # (when, order, replica, request that ends or -1: ask again)
    arrived, rejected, turn, now_ms, order = 0, 0, 0, 0, 0
    while arrived < len(requests) or events:
        arrival_ms = requests[arrived].arrival_ms if arrived < len(requests) else NEVER
        now_ms = min(arrival_ms, events[0][0] if events else NEVER)
        touched: dict[int, None] = {}
        while events and events[0][0] <= now_ms:
            _, _, index, ended = heapq.heappop(events)
            touched[index] = None
            if ended != -1:
                replica = replicas[index]
                replica.free += 1
                replica.load -= 1
                ended_ms[ended] = now_ms
                replica.rule.settle(now_ms, requests[ended], now_ms - started_ms[ended])
        while arrived < len(requests) and requests[arrived].arrival_ms <= now_ms:
            count = len(replicas)
            index = min(range(count), key=lambda one: (replicas[one].load, (one - turn) % count))
            turn = (index + 1) % count
            replica = replicas[index]
            if replica.rule.submit(now_ms, requests[arrived]):
                replica.load += 1
                replica.waits += 1
                touched[index] = None
            else:
                rejected += 1
            arrived += 1
        for index in touched:
            replica = replicas[index]
            while replica.waits and replica.free:
                picked = replica.rule.pick(now_ms, replica.free)
                if picked is None:
                    break
                order += 1
                if isinstance(picked, Wait):
                    heapq.heappush(events, (now_ms + max(1, picked.retry_after_ms), order, index, -1))
                    break
                replica.waits -= 1
                replica.free -= 1
                started_ms[picked.id] = now_ms
                heapq.heappush(events, (now_ms + picked.service_ms, order, index, picked.id))
    return Outcome(requests, started_ms, ended_ms, rejected, now_ms)

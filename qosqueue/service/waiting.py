"""Where does a message wait now, what stands before it, and what keeps it from beginning?

Only read, and off the path of every pick. Of very many tenants before it the first ones are counted: then it says "at
least".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import redis

from qosqueue.broker.replicas import Replicas, ReplicaState
from qosqueue.broker.scripts import Scripts, row_parts, waiting_key
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.reference.limits import names_of, tenant_limit
from qosqueue.policy.reference.message import Place, Stand, State

LOOK_AT = 200
FIELDS = (
    *("lane", "model", "tenant", "stand", "state", "score", "arrival", "eta", "budget_ms", "expires", "attempts"),
    *("holder", "started", "cancel"),
)
# A late request waits behind all that is in time, batch behind both.
BEHIND = {
    Stand.LIVE: (Stand.LIVE,),
    Stand.RELEGATED: (Stand.LIVE, Stand.RELEGATED),
    Stand.BATCH: (Stand.LIVE, Stand.RELEGATED, Stand.BATCH),
}


@dataclass(frozen=True)
class Reached:
    """A limit under which nothing more may begin now: its kind (place, model, lane, tier, tenant) and how many at
    once."""

    kind: str
    most: int


@dataclass(frozen=True)
class Waiting:
    """One message now. Instants in ms since the epoch by the server's clock, 0: none.

    `ahead` counts what stands before it by kind: a tier, `relegated`, `batch`; `own_ahead` of these its own tenant's,
    who is `number` of its tenant in its row (None: it waits in none). `slots` are those of its model's ready replicas.
    """

    tenant: str
    lane: str
    model: str
    state: State
    stand: Stand
    now_ms: int
    arrival_ms: int
    eta_ms: int
    budget_ms: int
    expires_ms: int
    attempts: int
    holder: str | None
    started_ms: int
    cancelled: bool
    number: int | None
    ahead: dict[str, int]
    own_ahead: int
    counted_all: bool
    reached: tuple[Reached, ...]
    replicas: int
    slots: int
    running: int


class WaitingView:
    """Reads the order's keys; changes nothing. Raises BrokerUnavailable."""

    def __init__(self, scripts: Scripts, replicas: Replicas) -> None:
        self._scripts = scripts
        self._client = scripts.client
        self._key = scripts.key
        self._replicas = replicas

    def of(self, task: str) -> Waiting | None:
        """The newest message of a task; None if the queue knows none."""
        try:
            tag = cast("bytes | None", self._client.hget(f"{self._key}:tasks", task))
            if tag is None:
                return None
            values = cast(Any, self._client.hmget(f"{self._key}:msg:{tag.decode()}", list(FIELDS)))
            if values[0] is None:
                return None
            return self._look(
                tag.decode(), {name: (value or b"").decode() for name, value in zip(FIELDS, values, strict=True)}
            )
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the queue cannot be read: {error}") from error

    def _look(self, tag: str, message: dict[str, str]) -> Waiting:
        place = message["lane"], message["model"]
        stand, state = Stand(message["stand"]), State(message["state"])
        queued = state is State.QUEUED and stand in BEHIND
        number = None
        ahead, own, counted_all = Counter[str](), 0, True
        if queued:
            rank = cast(
                "int | None",
                self._client.zrank(waiting_key(self._key, message["tenant"], stand, place), tag),
            )
            number = None if rank is None else rank + 1
            ahead, own, counted_all = self._ahead(stand, message)
        running, reached = self._limits(place, message["tenant"])
        ready = [
            live.replica
            for live in self._replicas.list()
            if live.replica.model == place[1] and live.replica.state is ReplicaState.READY
        ]
        return Waiting(
            tenant=message["tenant"],
            lane=place[0],
            model=place[1],
            state=state,
            stand=stand,
            now_ms=self._scripts.server_ms(),
            arrival_ms=int(message["arrival"]),
            eta_ms=int(message["eta"]),
            budget_ms=int(message["budget_ms"]),
            expires_ms=int(message["expires"]),
            attempts=int(message["attempts"]),
            holder=message["holder"] or None,
            started_ms=int(message["started"]),
            cancelled=message["cancel"] == "1",
            number=number,
            ahead=dict(ahead),
            own_ahead=own,
            counted_all=counted_all,
            reached=reached,
            replicas=len(ready),
            slots=sum(replica.slots for replica in ready),
            running=running,
        )

    def _ahead(self, stand: Stand, message: dict[str, str]) -> tuple[Counter[str], int, bool]:
        """What stands before it among what its model's slots may take: by kind, its own tenant's, whether all was
        counted."""
        ahead: Counter[str] = Counter()
        own, counted_all = 0, True
        rows = cast(Any, self._client.hkeys(f"{self._key}:depth"))
        for row in rows:
            other, lane, model = row_parts(row)
            if model != message["model"] or other not in BEHIND[stand]:
                continue
            # Of another stand everything is before it.
            before = f"({message['score']}" if other == stand else "+inf"
            tenants = cast(
                "list[bytes]",
                self._client.zrange(
                    f"{self._key}:heads:{row.decode()}", "-inf", before, byscore=True, offset=0, num=LOOK_AT + 1
                ),
            )
            counted_all = counted_all and len(tenants) <= LOOK_AT
            with self._client.pipeline(transaction=False) as pipe:
                for tenant in tenants[:LOOK_AT]:
                    pipe.zcount(waiting_key(self._key, tenant.decode(), other, (lane, model)), "-inf", before)
                counts = pipe.execute()
            kind = lane.partition(".")[0] if other == Stand.LIVE else other
            ahead[kind] += sum(counts)
            own += sum(
                count for tenant, count in zip(tenants, counts, strict=False) if tenant.decode() == message["tenant"]
            )
        return +ahead, own, counted_all

    def _limits(self, place: Place, tenant: str) -> tuple[int, tuple[Reached, ...]]:
        """How many run of the model, and the limits of a message that are reached."""
        of_place = dict(zip(("place", "model", "lane", "breaker", "tier"), names_of(place), strict=False))
        cap = tenant_limit(tenant)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hmget(f"{self._key}:limits", list(of_place.values()))
            pipe.hget(f"{self._key}:caps", cap)
            pipe.hmget(f"{self._key}:running", [*of_place.values(), cap])
            limits, capped, running = pipe.execute()
        now_ms = self._scripts.server_ms()
        counts = [int(count or 0) for count in running]
        reached = []
        for kind, told, count in zip((*of_place, "tenant"), (*limits, capped), counts, strict=True):
            most, _, until = (told or b"").partition(b":")
            if most and (until == b"0" or int(until) > now_ms) and count >= int(most):
                reached.append(Reached(kind, int(most)))
        return counts[1], tuple(reached)

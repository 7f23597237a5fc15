"""How does Python call the queue's commands? One method for each Lua script, with its twin's arguments and results.

`now_ms` is None outside tests and simulations: the server's clock counts (docs/adr/0004).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, cast

import redis

from qosqueue.broker import library
from qosqueue.broker.wire import Command, Exchange, Wire
from qosqueue.policy import order
from qosqueue.policy.breaker import Breaker
from qosqueue.policy.breaker import State as BreakerState
from qosqueue.policy.quota import Quota, Verdict
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import Limit
from qosqueue.policy.reference.message import Aged, Delivery, Nothing, Outcome, Place, Reaped

# The library may be flushed again while it is sent again.
LOADS_AT_MOST = 10

SUBMITTED = (
    *("tag", "task", "lane", "model", "tenant", "organisation", "priority", "batch", "budget_ms", "cost_ms"),
    *("delay_ms", "ttl_ms", "max_attempts", "payload"),
)
"""What submit is told of a message, in the order of its arguments."""


class Scripts:
    """The commands of one group on one Redis. Calls are atomic; they raise redis.RedisError when Redis is away.

    The first call loads the library, and so does the next one after FUNCTION FLUSH or on a server that lost it.
    """

    def __init__(self, client: redis.Redis, group: str, key_prefix: str = "") -> None:
        """`key_prefix` is put before all keys, as Kombu's `global_keyprefix`; `client` must not add one itself."""
        self.client = client
        self.group = group
        self.key = f"{key_prefix}{{{group}}}"
        self.wire = Wire(client)

    def submit(
        self,
        *,
        tag: str,
        task: str,
        lane: str,
        model: str,
        tenant: str,
        organisation: str,
        priority: int,
        batch: bool,
        budget_ms: int,
        cost_ms: int,
        delay_ms: int,
        ttl_ms: int,
        max_attempts: int,
        payload: str | bytes,
        admitted: bool = False,
        fence: int | None = None,
        now_ms: int | None = None,
    ) -> int:
        """Queue one message: 1, 0 if the tag is known, -1 if it must be `admitted` and its task was not.

        `cost_ms` 0: the sender does not know. With a `fence` it is the only message of its task (0 if the task is
        known), and its attempts go on from that fence.
        """
        who = (tag, task, lane, model, tenant, organisation)
        how = (priority, int(batch), budget_ms, cost_ms, delay_ms, ttl_ms, max_attempts)
        return int(self._call("submit", now_ms, *who, *how, payload, int(admitted), "" if fence is None else fence))

    def offer(
        self,
        request: str,
        quotas: Sequence[Quota],
        *,
        fence: int | None = None,
        exchange: Exchange | None = None,
        now_ms: int | None = None,
        **message: Any,
    ) -> Verdict | None:
        """Admit and submit at once: what is not admitted is not queued. `message` and `fence` are what `submit` takes;
        None: it has a fence and its task is known, so nothing was asked. `exchange` may send the call along with
        something else."""
        admit = admit_arguments(request, quotas)
        submit = [int(value) if isinstance(value, bool) else value for value in map(message.__getitem__, SUBMITTED)]
        # admit has just let it in: submit need not look.
        command = self.command("offer", len(admit), *admit, *submit, 0, "" if fence is None else fence, now_ms=now_ms)
        (answer,) = self.run([command], exchange)
        if isinstance(answer, redis.ResponseError):
            raise answer
        return None if answer == 0 else to_verdict(answer)

    def dispatch(
        self,
        *,
        lease_ms: int,
        holder: str,
        places: Sequence[Place],
        warm: int | None = None,
        now_ms: int | None = None,
    ) -> Delivery | Nothing:
        """Lease the next message of `places` to `holder`; the first `warm` places (None: all) come before the rest."""
        return to_picked(self._call("dispatch", now_ms, *dispatch_arguments(lease_ms, holder, places, warm)))

    def renew(self, *, lease_ms: int, leases: Iterable[tuple[str, int]], now_ms: int | None = None) -> list[int]:
        """For each (tag, fence): 0 lost, 1 held, 2 held but cancelled by its tenant."""
        flat = [part for lease in leases for part in lease]
        return [int(answer) for answer in self._call("renew", now_ms, lease_ms, *flat)]

    def settle(
        self,
        *,
        tag: str,
        fence: int,
        outcome: Outcome,
        spent: Mapping[str, int] | None = None,
        breakers: Sequence[str] = (),
        now_ms: int | None = None,
    ) -> int:
        """End one attempt: 0 stale, 1 as asked, 2 was to be put back or kept, or was not served, but its tenant had
        cancelled it: gone, 3 was to be retried, but this was its last attempt: it still runs.

        `spent` is what a done one has used, as of `release`; None: not known, what was estimated stays charged.
        `breakers` are told that a done one was served.
        """
        return int(self._call("settle", now_ms, *settle_arguments(tag, fence, outcome, spent, breakers)))

    def withdraw(self, *, task: str, now_ms: int | None = None) -> int:
        """Take a message back: 0 unknown, 1 it is gone, 2 it runs and its holder was told to stop."""
        return int(self._call("withdraw", now_ms, task))

    def rerank(
        self,
        *,
        task: str,
        priority: int | None = None,
        budget_ms: int | None = None,
        boost: int | None = None,
        boost_ms: int = 0,
        charge: bool = False,
        now_ms: int | None = None,
    ) -> int:
        """Move a queued message: 1, or 0 if the task is not queued.

        `priority` and `budget_ms` (from its arrival) replace its own; `boost` is a priority that counts for `boost_ms`
        (0 ends a boost); `charge` decides its penalty afresh, with the shares of now, for what was
        claimed before it when it joined.
        """
        new = ["" if value is None else value for value in (priority, budget_ms, boost)]
        return int(self._call("rerank", now_ms, task, *new, boost_ms, int(charge)))

    def recharge(self, tasks: Iterable[str]) -> int:
        """`rerank` with `charge` for many tasks in one round trip; how many of them were queued."""
        answers = self.run([self.command("rerank", task, "", "", "", 0, 1) for task in tasks])
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return sum(map(int, answers))

    def replay(self, *, task: str, now_ms: int | None = None) -> int:
        """Queue a dead letter again, as if it had just arrived, with all its attempts: 1, or 0 if it is not dead."""
        return int(self._call("replay", now_ms, task))

    def discard(self, *, tag: str, now_ms: int | None = None) -> int:
        """Forget a dead letter for good: 1, or 0 if it is not dead."""
        return int(self._call("discard", now_ms, tag))

    def reap(self, *, limit: int, now_ms: int | None = None) -> Reaped:
        """Requeue lost leases (or call them dead), drop what expired in the queue."""
        requeued, dead, expired, withdrawn, fences = self._call("reap", now_ms, limit)
        return Reaped(
            requeued=_texts(requeued),
            dead=_texts(dead),
            expired=_texts(expired),
            withdrawn=_texts(withdrawn),
            fences=tuple(int(fence) for fence in fences),
        )

    def age(self, *, limit: int, now_ms: int | None = None) -> Aged:
        """Make up to `limit` moves of each kind that time has brought."""
        return Aged(*map(_texts, self._call("age", now_ms, limit)))

    def purge(self, *, lane: str, limit: int, now_ms: int | None = None) -> int:
        """Drop up to `limit` queued messages of a lane, oldest first; how many."""
        return int(self._call("purge", now_ms, lane, limit))

    def limit(self, *, name: str, most: int | None, for_ms: int = 0, now_ms: int | None = None) -> None:
        """Let at most `most` attempts run under a name (policy/reference/limits.py), for so long (0: for good); None
        lifts the limit. It counts from the next pick on, for what is queued too."""
        self._call("limit", now_ms, name, "" if most is None else most, for_ms)

    def admit(self, *, request: str, quotas: Sequence[Quota], now_ms: int | None = None) -> Verdict:
        """Take what a request needs of all its quotas, or nothing of any (policy/quota.py)."""
        return to_verdict(self._call("admit", now_ms, *admit_arguments(request, quotas)))

    def release(self, *, request: str, spent: Mapping[str, int] | None = None, now_ms: int | None = None) -> int:
        """End what a request holds: 1, or 0 if it holds nothing (any more). `spent` is what it used, `tokens` and
        `gpu_ms`; None: nothing, and all that it took is given back."""
        return int(self._call("release", now_ms, request, *_told_spent(spent)))

    def lapse(self, *, limit: int, now_ms: int | None = None) -> tuple[str, ...]:
        """Give back what is held by requests that were never queued, or that the order has lost; their ids."""
        return _texts(self._call("lapse", now_ms, limit))

    def observe(self, *, names: Sequence[str], served: bool, now_ms: int | None = None) -> list[BreakerState]:
        """Tell breakers how an attempt ended; their states now."""
        return [BreakerState(state.decode()) for state in self._call("observe", now_ms, int(served), *names)]

    def probe(self, *, now_ms: int | None = None) -> dict[str, Breaker]:
        """Every breaker that is not closed and sound, as time has made it."""
        found = _texts(self._call("probe", now_ms))
        return {name: _breaker(told) for name, told in zip(found[::2], found[1::2], strict=True)}

    def trip(self, *, name: str, for_ms: int | None, now_ms: int | None = None) -> None:
        """Open a breaker for so long (0: until it is reset), or reset it (None)."""
        self._call("trip", now_ms, name, "" if for_ms is None else for_ms)

    def limits(self) -> dict[str, Limit]:
        """Every limit by its name, also one that has ended."""
        found = [cast(Any, self.client.hgetall(f"{self.key}:{hash_name}")) for hash_name in ("limits", "caps")]
        limits = {}
        for name, told in chain.from_iterable(each.items() for each in found):
            most, _, until = told.partition(b":")
            limits[name.decode()] = Limit(int(most), int(until))
        return limits

    def running(self) -> dict[str, int]:
        """How many attempts run under each name that a limit may have."""
        found = cast(Any, self.client.hgetall(f"{self.key}:running"))
        return {name.decode(): int(count) for name, count in found.items()}

    def share(self, organisation: str, share: Share | None) -> None:
        """What an organisation was promised (None: nothing of its own any more); counts from its next request on (see
        `rerank`, `charge`)."""
        if share is None:
            self.client.hdel(f"{self.key}:shares", organisation)
            return
        allowance = "" if share.allowance_q10 is None else share.allowance_q10
        told = f"{share.contract_q10}:{allowance}:{min(share.steepness_q10, order.STEEPEST_Q10)}"
        self.client.hset(f"{self.key}:shares", organisation, told)

    def shares(self) -> dict[str, Share]:
        """What each organisation was promised that was promised anything."""
        found = cast(Any, self.client.hgetall(f"{self.key}:shares"))
        shares = {}
        for name, told in found.items():
            contract, allowance, steepness = told.split(b":")
            shares[name.decode()] = Share(int(contract), int(allowance) if allowance else None, int(steepness))
        return shares

    def server_ms(self) -> int:
        """The server's clock, in ms since the epoch."""
        return milliseconds(self.client.time())

    def pool(self, model: str, terms: order.PoolTerms) -> None:
        """What the order knows of a model's pool."""
        self.client.hset(f"{self.key}:pool:{model}", mapping=cast(Any, asdict(terms)))

    def mean_service_ms(self, model: str) -> int:
        """The running mean of what a model's requests took; 0 before the first."""
        return int(cast(Any, self.client.hget(f"{self.key}:mean32", model)) or 0) >> order.MEAN_STEP_BITS

    def load(self) -> None:
        """Load the library, before there is anything to call it for."""
        (answer,) = self.wire.exchange([library.load()])
        if not library.is_there(answer):
            raise answer

    def command(self, name: str, *arguments: Any, now_ms: int | None = None) -> Command:
        """A call as a command, for callers that send several at once; `arguments` are the script's ARGV 2 and on."""
        return ("FCALL", library.function(name), 1, self.key, "" if now_ms is None else now_ms, *arguments)

    def run(self, commands: Sequence[Command], exchange: Exchange | None = None) -> list[Any]:
        """The answers to several calls in one write, as Wire.exchange gives them; the library is loaded if need be."""
        answers = (exchange or self.wire.exchange)(commands)
        for _ in range(LOADS_AT_MOST):
            missing = [place for place, answer in enumerate(answers) if library.is_missing(answer)]
            if not missing:
                break
            # In one write, so that a flush hardly ever comes between.
            loaded, *again = self.wire.exchange([library.load(), *(commands[place] for place in missing)])
            for place, answer in zip(missing, again, strict=True):
                # Redis loads nothing at maxmemory: the caller hears of that.
                answers[place] = answer if library.is_there(loaded) else loaded
        return answers

    def _call(self, name: str, now_ms: int | None, *arguments: Any) -> Any:
        (answer,) = self.run([self.command(name, *arguments, now_ms=now_ms)])
        if isinstance(answer, redis.ResponseError):
            raise answer
        return answer


def bell_key(key: str, place: Place) -> str:
    """The list that is pushed to when something may run at a place; `key` is that of Scripts."""
    return f"{key}:bell:{_pair(*place)}"


def waits_key(key: str, place: Place) -> str:
    """The number of messages that wait at a place; `key` is that of Scripts."""
    return f"{key}:waits:{_pair(*place)}"


def milliseconds(time: Any) -> int:
    """Redis' TIME, [seconds, microseconds], in ms since the epoch."""
    seconds, microseconds = time
    return int(seconds) * 1000 + int(microseconds) // 1000


def waiting_key(key: str, tenant: str, stand: str, place: Place) -> str:
    """The sorted set of what one tenant has waiting in a row; `key` is that of Scripts."""
    return f"{key}:waiting:{_pair(tenant, f'{stand}:{_pair(*place)}')}"


def row_name(stand: str, place: Place) -> str:
    """The name of a row."""
    return f"{stand}:{_pair(*place)}"


def row_parts(row: bytes) -> tuple[str, str, str]:
    """Stand, lane and model of a row's name."""
    stand, length, rest = row.split(b":", 2)
    lane, model = rest[: int(length)], rest[int(length) + 1 :]
    return stand.decode(), lane.decode(), model.decode()


def dispatch_arguments(lease_ms: int, holder: str, places: Sequence[Place], warm: int | None = None) -> list[Any]:
    """ARGV 2 and on of the dispatch script."""
    names = [_pair(*place) for place in places]
    return [lease_ms, holder, len(names) if warm is None else warm, len(names), *names]


def to_picked(answer: list[Any] | int) -> Delivery | Nothing:
    """The dispatch script's answer as a value."""
    if isinstance(answer, int):
        return Nothing(None if answer < 0 else answer)
    tag, fence, lane, model, task, lease_until, arrival, payload, passage = answer
    return Delivery(
        tag=tag.decode(),
        fence=int(fence),
        lane=lane.decode(),
        model=model.decode(),
        task=task.decode(),
        lease_until=int(lease_until),
        arrival=int(arrival),
        payload=payload.decode(),
        passage=passage.decode(),
    )


def admit_arguments(request: str, quotas: Sequence[Quota]) -> list[Any]:
    """ARGV 2 and on of the admit script."""
    return [request, *chain.from_iterable((each.name, each.kind, each.most, each.amount) for each in quotas)]


def settle_arguments(
    tag: str, fence: int, outcome: Outcome, spent: Mapping[str, int] | None, breakers: Sequence[str] = ()
) -> list[Any]:
    """ARGV 2 and on of the settle script."""
    return [tag, fence, outcome, *_told_spent(spent), *breakers]


def _told_spent(spent: Mapping[str, int] | None) -> tuple[Any, Any]:
    return ("", "") if spent is None else (spent["tokens"], spent["gpu_ms"])


def to_verdict(answer: list[Any]) -> Verdict:
    """The admit script's answer as a value."""
    admitted, now, *used = map(int, answer)
    return Verdict(admitted == 1, now, tuple(used))


def _breaker(told: str) -> Breaker:
    state, *figures = told.split(":")
    return Breaker(BreakerState(state), *map(int, figures))


def _pair(first: str, second: str) -> str:
    return f"{len(first.encode())}:{first}:{second}"


def _texts(values: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(value.decode() for value in values)

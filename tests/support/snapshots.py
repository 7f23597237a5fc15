"""What is the whole state of a group, so that Redis and the reference can be compared?

Both sides give {key: value}; a key that only one side has, a stray member or a wrong score all show.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, fields
from typing import Any

import redis

from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.reference.message import Message, Row, Stand
from qosqueue.policy.reference.queue import ReferenceQueue

Snapshot = dict[str, Any]

KEPT = ("number", "mean32", "bias", "credit", "tokens", "picks:", "held", "looked-until")
"""How the names begin of what stays when the queue is empty: what was learned, and what is counted on for ever."""


def of_redis(client: redis.Redis, group: str) -> Snapshot:
    """Every key of the group, whole."""
    prefix = f"{{{group}}}:"
    snapshot: Snapshot = {}
    for raw in client.scan_iter(match=f"{{{group}}}:*", count=1000):
        key = raw.decode()
        match client.type(raw):
            case b"hash":
                value: Any = {name.decode(): each.decode() for name, each in client.hgetall(raw).items()}
            case b"zset":
                value = {member.decode(): int(score) for member, score in client.zrange(raw, 0, -1, withscores=True)}
            case b"set":
                value = {member.decode() for member in client.smembers(raw)}
            case b"list":
                value = client.llen(raw)
            case b"string":
                text: Any = client.get(raw)
                if text is None:
                    continue
                value = text.decode()
            case _:
                continue  # it went between the scan and the look
        snapshot[key.removeprefix(prefix)] = value
    return snapshot


def of_reference(queue: ReferenceQueue) -> Snapshot:
    """The same keys, from the reference's state."""
    standing, rows, claims, limits = queue.standing, queue.standing.rows, queue.standing.claims, queue.standing.limits
    snapshot: Snapshot = {}
    for message in queue.messages.values():
        snapshot[f"msg:{message.tag}"] = _fields(message)
        snapshot[f"body:{message.tag}"] = message.payload
    ordered: dict[str, OrderedSet] = {
        "leases": queue.leases,
        "dead": queue.dead,
        "expiry": standing.expiry,
        "holds": queue.door.ends,
        "later": standing.later,
        "due": standing.due,
        "ends": limits.ends,
        **{f"arrivals:{lane}": arrivals for lane, arrivals in standing.arrivals.items()},
        **{f"heads:{_row(row)}": heads for row, heads in rows.heads.items()},
        **{f"waiting:{_pair(tenant, _row(row))}": waiting for (row, tenant), waiting in rows.waiting.items()},
    }
    snapshot |= {key: dict(members.items()) for key, members in ordered.items() if len(members)}
    snapshot |= {f"parked:{tenant}": {_row(row) for row in parked} for tenant, parked in rows.parked.items()}
    snapshot |= {f"bell:{_pair(*place)}": count for place, count in standing.bells.items()}
    snapshot |= {
        f"pool:{model}": {field.name: str(getattr(terms, field.name)) for field in fields(terms)}
        for model, terms in standing.pools.items()
    }
    snapshot |= {f"used:{kind}:{name}": f"{use.amount}:{use.since}" for (kind, name), use in queue.door.used.items()}
    snapshot |= {
        f"hold:{request}": {f"{kind}:{name}": f"{h.amount}:{h.most}:{h.since}" for (kind, name), h in holds.items()}
        for request, holds in queue.door.holds.items()
        if holds
    }
    told_limits = {name: f"{limit.most}:{limit.until}" for name, limit in limits.limits.items()}
    hashes: dict[str, dict[str, Any]] = {
        "tasks": queue.tasks,
        "depth": {_row(row): depth for row, depth in rows.depth.items()},
        "claims": {_pair(*account): claimed for account, claimed in claims.claimed.items()},
        "tokens": {_pair(*account): f"{tokens}:{since}" for account, (tokens, since) in claims.tokens.items()},
        "shares": {
            name: f"{s.contract_q10}:{'' if s.allowance_q10 is None else s.allowance_q10}:{s.steepness_q10}"
            for name, s in claims.shares.items()
        },
        "limits": {name: told for name, told in told_limits.items() if not name.startswith("t:")},
        "caps": {name: told for name, told in told_limits.items() if name.startswith("t:")},
        "running": limits.running,
        "credit": standing.credit,
        "bias": {_pair(*account): bias for account, bias in queue.bias.items()},
        "mean32": queue.mean32,
        "breakers": {name: ":".join(map(str, astuple(each))) for name, each in queue.breakers.found.items()},
        "held": {name: f"{total}:{since}" for name, (total, since) in limits.held.by_name.items()},
    }
    snapshot |= {key: {name: str(each) for name, each in values.items()} for key, values in hashes.items() if values}
    snapshot |= {f"waits:{name}": str(count) for name, count in _waits(rows.depth).items()}
    snapshot |= {f"picks:{name}": str(count) for name, count in standing.passages.picks.items()}
    if standing.number:
        snapshot["number"] = str(standing.number)
    return snapshot


def _waits(depth: dict[Row, int]) -> dict[str, int]:
    """How many wait, by place, and by stand for all that are not live."""
    waits: Counter[str] = Counter()
    for (stand, lane, model), count in depth.items():
        waits[_pair(lane, model)] += count
        if stand is not Stand.LIVE:
            waits[stand] += count
    return dict(waits)


def _fields(message: Message) -> dict[str, str]:
    told = {
        field.name: getattr(message, field.name) for field in fields(message) if field.name not in ("payload", "holder")
    }
    if message.claimed is None:
        del told["claimed"]
    told["seen"] = ":".join(map(str, message.seen))
    held = told.pop("seen_held")
    if any(held):
        told["seen_held"] = ":".join(map(str, held))
    told["penalty"] = "" if message.penalty is None else message.penalty
    if message.holder is not None:
        told["holder"] = message.holder
    return {name: str(int(value) if isinstance(value, bool) else value) for name, value in told.items()}


def _pair(first: str, second: str) -> str:
    return f"{len(first.encode())}:{first}:{second}"


def _row(row: tuple[str, str, str]) -> str:
    stand, lane, model = row
    return f"{stand}:{_pair(lane, model)}"

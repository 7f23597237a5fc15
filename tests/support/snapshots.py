"""What is the whole state of a group, so that Redis and the reference can be compared?

Both sides give {key: value}; a key that only one side has, a stray member or a wrong score all show.
"""

from __future__ import annotations

from typing import Any

import redis

from qosqueue.policy.reference.message import State
from qosqueue.policy.reference.queue import ReferenceQueue

Snapshot = dict[str, Any]


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
                value = client.get(raw).decode()
            case _:
                continue  # it went between the scan and the look
        snapshot[key.removeprefix(prefix)] = value
    return snapshot


def of_reference(queue: ReferenceQueue) -> Snapshot:
    """The same keys, from the reference's state."""
    snapshot: Snapshot = {}
    for message in queue.messages.values():
        fields = {
            "lane": message.lane,
            "model": message.model,
            "task": message.task,
            "rank": str(message.rank),
            "arrival": str(message.arrival),
            "deadline": str(message.deadline),
            "expires": str(message.expires),
            "state": message.state.value,
            "fence": str(message.fence),
            "attempts": str(message.attempts),
            "max_attempts": str(message.max_attempts),
            "cancel": str(int(message.cancel)),
            "payload": message.payload,
        }
        if message.holder is not None:
            fields["holder"] = message.holder
        snapshot[f"msg:{message.tag}"] = fields
        place = f"{message.lane}:{message.model}"
        if message.state is State.QUEUED:
            _add(snapshot, f"ready:{place}", message.tag, message.rank)
            _add(snapshot, f"arrivals:{message.lane}", message.tag, message.arrival)
            if message.expires:
                _add(snapshot, "expiry", message.tag, message.expires)
            if message.aged:
                _add(snapshot, f"aged:{place}", message.tag, message.arrival)
        elif message.state is State.LEASED:
            _add(snapshot, "leases", message.tag, message.lease_until)
        else:
            _add(snapshot, "dead", message.tag, message.dead_since)
    snapshot |= {f"bell:{lane}:{model}": count for (lane, model), count in queue.bells.items()}
    if queue.tasks:
        snapshot["tasks"] = dict(queue.tasks)
    if queue.places:
        snapshot["places"] = {f"{lane}:{model}" for lane, model in queue.places}
    if queue.turn:
        snapshot["turn"] = str(queue.turn)
    return snapshot


def _add(snapshot: Snapshot, key: str, member: str, score: int | None) -> None:
    snapshot.setdefault(key, {})[member] = score

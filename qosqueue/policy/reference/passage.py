"""What did a message meet between its arrival and its pick?

Counts run on for ever: how many of each kind a model's slots have taken, for how long each limit was reached. They are
read when a message begins to wait and when it is picked; the differences are its passage: what began before it, and
what held it back. So the story of a request costs a pick the same, however many it passes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from qosqueue.policy.order import tier_index
from qosqueue.policy.reference.limits import Limits, names_of, tenant_limit
from qosqueue.policy.reference.message import Message, Stand
from qosqueue.policy.reference.rows import Rows

KINDS = ("0", "1", "2", Stand.RELEGATED.value, Stand.BATCH.value)
"""Live requests by tier, and what is late or batch, whatever its tier."""


@dataclass(frozen=True)
class Passage:
    """What one attempt's message met while it waited. Times in ms.

    `own_waiting` of its tenant waited in its row when it came (itself included), `place_waiting` at its lane and model,
    `relegated_waiting` and `batch_waiting` in the whole queue. Of its model began meanwhile: `began_*` by kind, and
    `began_own` of its own tenant among all these. It could not begin for `held_*`: the limit of its lane on its model,
    of its model, its lane, its tier, its tenant, its model's breaker was reached. `penalty_ms` moved it back;
    `in_profile`, `boosted` are 0 or 1.
    """

    stand: str
    waited_ms: int
    own_waiting: int
    place_waiting: int
    relegated_waiting: int
    batch_waiting: int
    began_vip: int
    began_standard: int
    began_basic: int
    began_relegated: int
    began_batch: int
    began_own: int
    held_place_ms: int
    held_model_ms: int
    held_lane_ms: int
    held_tier_ms: int
    held_tenant_ms: int
    held_breaker_ms: int
    penalty_ms: int
    in_profile: int
    priority: int
    boosted: int

    @classmethod
    def from_text(cls, text: str) -> Passage | None:
        """The passage that a delivery brought; None if its message was queued by a version that noted nothing."""
        stand, *figures = text.split(":")
        if len(figures) != len(fields(cls)) - 1:
            return None
        return cls(stand, *map(int, figures))


class Passages:
    """Notes what is there when a message begins to wait, and tells its passage when it is picked."""

    def __init__(self, rows: Rows, limits: Limits) -> None:
        self._rows = rows
        self._limits = limits
        self.picks: dict[str, int] = {}

    def note_arrival(self, now: int, message: Message) -> None:
        """Read everything for a message that begins to wait, and stands by now."""
        lane, model = message.lane, message.model
        depth = self._rows.depth
        waiting = self._rows.waiting.get((message.row, message.tenant))
        at_place = sum(depth.get((stand, lane, model), 0) for stand in (Stand.LIVE, Stand.RELEGATED, Stand.BATCH))
        late = sum(count for (stand, _, _), count in depth.items() if stand is Stand.RELEGATED)
        batch = sum(count for (stand, _, _), count in depth.items() if stand is Stand.BATCH)
        there = (0 if waiting is None else len(waiting), at_place, late, batch)
        message.seen = (max(0, now - message.arrival), *there, *self._picks_before(message))
        message.seen_held = self._limits.held.reading(now, self._names(message))

    def passage_of(self, now: int, message: Message) -> str:
        """The passage of a message that is being picked, before it is counted, as Passage.from_text takes it."""
        after, own, at_place, late, batch, *picks = message.seen
        held = self._limits.held.reading(now, self._names(message))
        figures = [
            max(0, now - message.arrival - after),
            *(own, at_place, late, batch),
            *_since(self._picks_before(message), picks),
            *_since(held, message.seen_held),
            message.penalty or 0,
            int(message.in_profile),
            message.priority,
            int(message.boost_until > now),
        ]
        return ":".join([message.stand, *map(str, figures)])

    def count_pick(self, message: Message) -> None:
        """Count a message that is being picked."""
        kind = str(tier_index(message.priority)) if message.stand is Stand.LIVE else message.stand.value
        names = [f"{kind}:{message.model}"]
        if message.tenant:
            names.append(_own(message))
        for name in names:
            self.picks[name] = self.picks.get(name, 0) + 1

    def _picks_before(self, message: Message) -> tuple[int, ...]:
        names = [*(f"{kind}:{message.model}" for kind in KINDS), _own(message)]
        return tuple(self.picks.get(name, 0) for name in names)

    def _names(self, message: Message) -> tuple[str, ...]:
        names = names_of((message.lane, message.model))
        return (*names, tenant_limit(message.tenant)) if message.tenant else names


def _own(message: Message) -> str:
    """Under which name the picks of its tenant are counted."""
    return f"t:{len(message.tenant.encode())}:{message.tenant}:{message.model}"


def _since(readings: Sequence[int], seen: Sequence[int]) -> list[int]:
    return [max(0, reading - before) for reading, before in zip(readings, seen, strict=True)]

"""Which message runs next on a free slot?

Eligible first: places under none of their limits, tenants below theirs, messages in their time to live. Then the order:
what relegated work is owed, else the first live message (of a warm model, if one waits), else the first relegated one;
and if nobody online wants the slot, batch, behind a few slots that stay free for whoever comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qosqueue.policy import order
from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.reference.limits import names_of, tenant_limit
from qosqueue.policy.reference.message import Message, Place, Row, Stand
from qosqueue.policy.reference.standing import Standing


@dataclass(frozen=True)
class _Head:
    """The first eligible message of one kind over all places."""

    score: int
    row: Row
    tenant: str


class Pick:
    """One pick, at one instant."""

    def __init__(self, now: int, standing: Standing, messages: dict[str, Message]) -> None:
        self._now = now
        self._standing = standing
        self._messages = messages
        self._passed_over = 0

    def first(self, warm: Sequence[Place], cold: Sequence[Place]) -> Message | None:
        """The message to lease, still in its row."""
        near, far = ([place for place in places if self._is_open(place)] for places in (warm, cold))
        relegated = self._message(Stand.RELEGATED, near + far)
        if relegated is not None and self._standing.credit.get(relegated.model, 0) > 0:
            self._repay(relegated)
            return relegated
        live = self._message(Stand.LIVE, near) or self._message(Stand.LIVE, far)
        if live is not None:
            if relegated is not None:
                self._owe(relegated.model, live.cost_ms)
            return live
        if self._passed_over >= order.PASSED_OVER_PER_PICK:
            # Somebody online may wait behind those that were passed over: the next pick looks there.
            return None
        if relegated is not None:
            return relegated
        return self._message(Stand.BATCH, self._spare(near)) or self._message(Stand.BATCH, self._spare(far))

    def retry_after_ms(self, places: Sequence[Place]) -> int | None:
        """When to look again, after nothing was found."""
        waits = []
        if self._passed_over >= order.PASSED_OVER_PER_PICK:
            waits.append(1)
        if any(self._standing.waits_at(place) for place in places):
            waits.append(order.LOOK_AGAIN_MS)
            waits += self._until(self._standing.limits.ends)
        waits += self._until(self._standing.later)
        return min(waits) if waits else None

    def _is_open(self, place: Place) -> bool:
        limits = self._standing.limits
        return self._standing.waits_at(place) and not any(limits.reached(self._now, name) for name in names_of(place))

    def _until(self, instants: OrderedSet) -> list[int]:
        first = instants.first()
        return [] if first is None else [max(1, first[0] - self._now)]

    def _head(self, stand: Stand, places: Sequence[Place]) -> _Head | None:
        """The first of a kind."""
        while True:
            best: _Head | None = None
            for lane, model in places:
                row = (stand, lane, model)
                head = self._standing.rows.head(row)
                if head is None:
                    continue
                if best is None or head[0] < best.score:
                    best = _Head(head[0], row, head[1])
            if best is None or not best.tenant:
                return best
            if not self._standing.limits.reached(self._now, tenant_limit(best.tenant)):
                return best
            if self._passed_over >= order.PASSED_OVER_PER_PICK:
                return None
            self._passed_over += 1
            self._standing.rows.park(best.row, best.tenant)

    def _spare(self, places: Sequence[Place]) -> list[Place]:
        """Those of the places where batch may begin."""
        return [place for place in places if self._has_spare(place[1])]

    def _has_spare(self, model: str) -> bool:
        terms = self._standing.terms(model)
        running = self._standing.limits.running.get(f"m:{model}", 0)
        return not terms.slots or terms.slots - running > terms.spare

    def _owe(self, model: str, served_ms: int) -> None:
        most = max(order.LEAST_CREDIT_MS, self._standing.terms(model).credit_ms)
        credit = self._standing.credit
        credit[model] = min(credit.get(model, 0) + (served_ms * order.FLOOR_Q10 >> 10), most)

    def _repay(self, served: Message) -> None:
        mean_ms = self._standing.terms(served.model).mean_ms or order.DEFAULT_COST_MS
        credit = self._standing.credit
        credit[served.model] = max(credit[served.model] - served.cost_ms, -order.MOST_OWED_SERVICES * mean_ms)

    def _message(self, stand: Stand, places: Sequence[Place]) -> Message | None:
        """The first of a kind that is still in its time to live."""
        while (head := self._head(stand, places)) is not None:
            message = self._messages[self._standing.rows.first_of(head.row, head.tenant)]
            if not message.is_expired(self._now):
                return message
            if self._passed_over >= order.PASSED_OVER_PER_PICK:
                break
            self._passed_over += 1
            self._standing.expire(message)
        return None

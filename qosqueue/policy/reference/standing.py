"""How does a queued message stand now, and what does time change about it?

The score of a message in its row never changes by itself. What time does change moves it once, from one row to
another, at an instant that is known before: its ETA, half of its batch window, the end of its start budget, the end of
a boost. Picks make a few such moves, the watchdog makes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from qosqueue.policy import order
from qosqueue.policy.order import PoolTerms
from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.reference.claims import Claims
from qosqueue.policy.reference.limits import Limit, Limits, model_limit, names_of
from qosqueue.policy.reference.message import Aged, Message, Place, Stand, State
from qosqueue.policy.reference.passage import Passages
from qosqueue.policy.reference.rows import Rows

NO_TERMS = PoolTerms()


class Standing:
    """Everything about those who wait: rows, claims, limits, bells, and the instants at which something changes."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.claims = Claims()
        self.limits = Limits()
        self.passages = Passages(self.rows, self.limits)
        self.pools: dict[str, PoolTerms] = {}
        self.credit: dict[str, int] = {}
        self.bells: dict[Place, int] = {}
        self.arrivals: dict[str, OrderedSet] = {}
        self.expiry = OrderedSet()
        self.later = OrderedSet()
        self.due = OrderedSet()
        self.number = 0
        self.messages: dict[str, Message] = {}

    def terms(self, model: str) -> PoolTerms:
        """The terms of a model's pool."""
        return self.pools.get(model, NO_TERMS)

    def enter(self, now: int, message: Message) -> None:
        """Put a message among those who wait, where it stands now."""
        message.state = State.QUEUED
        self.arrivals.setdefault(message.lane, OrderedSet()).add(message.tag, message.arrival)
        if message.expires:
            self.expiry.add(message.tag, message.expires)
        self._stand(now, message)

    def leave(self, message: Message) -> None:
        """Take a message out from those who wait."""
        arrivals = self.arrivals[message.lane]
        arrivals.remove(message.tag)
        if not arrivals:
            del self.arrivals[message.lane]
        self.expiry.remove(message.tag)
        self._unstand(message)

    def expire(self, message: Message) -> None:
        """Pass over for good what is past its time to live: it stays where the next sweep finds it."""
        self._unstand(message)
        message.stand, message.due = Stand.EXPIRED, 0

    def move_due(self, now: int, limit: int) -> Aged:
        """Make up to `limit` moves of each kind: limits that end, ETA reached, and the rest."""
        for name in self.limits.ends.up_to(now, limit):
            self.limit(now, name, None)
        woken: list[str] = []
        joined: list[str] = []
        relegated: list[str] = []
        boost_ended: list[str] = []
        missed: list[str] = []
        for tag in self.later.up_to(now, limit):
            message = self.messages[tag]
            self._restand(now, message)
            # Until its ETA it waited for nobody.
            self.passages.note_arrival(now, message)
            woken.append(message.task)
        for tag in self.due.up_to(now, limit):
            message = self.messages[tag]
            before, ends = message.stand, message.boost_until
            self._restand(now, message)
            if before is not message.stand and message.stand is not Stand.EXPIRED:
                (relegated if message.stand is Stand.RELEGATED else joined).append(message.task)
            elif before is message.stand:
                # Nothing else leaves a message in its stand: its boost ended, or it is of vip and missed its budget.
                (boost_ended if ends and ends <= now else missed).append(message.task)
        return Aged(tuple(woken), tuple(joined), tuple(relegated), tuple(boost_ended), tuple(missed))

    def limit(self, now: int, name: str, limit: Limit | None) -> None:
        """Set or lift a limit, and let be picked what it held back."""
        self.limits.put(now, name, limit)
        if name.startswith("t:"):
            self.unpark(name[2:])
        else:
            self.ring_under({name})

    def end(self, now: int, message: Message) -> None:
        """One attempt at a message runs no more. Whoever is idle knows nothing of the limits that it has opened, nor of
        slots that batch may have again: wake one slot wherever that lets something begin."""
        opened = self.limits.end(now, (message.lane, message.model), message.tenant)
        terms = self.terms(message.model)
        left = terms.slots - self.limits.running.get(model_limit(message.model), 0)
        self.ring_under(opened, message.model if terms.slots and left == terms.spare + 1 else None)
        self.unpark(message.tenant)

    def unpark(self, tenant: str) -> None:
        """A tenant may be picked again: one of its slots is free, or its limit was changed."""
        for _, lane, model in self.rows.unpark(tenant):
            self.ring((lane, model))

    def ring(self, place: Place) -> None:
        """Wake one slot that waits for a place."""
        self.bells[place] = min(self.bells.get(place, 0) + 1, order.BELL_DEPTH)

    def ring_under(self, names: set[str], batch_of: str | None = None) -> None:
        """Wake a slot for every place where something waits under one of these names, or batch for that model."""
        rows = self.rows.depth
        for place in {
            (lane, model)
            for stand, lane, model in rows
            if (stand is Stand.BATCH and model == batch_of) or not names.isdisjoint(names_of((lane, model)))
        }:
            self.ring(place)

    def waits_at(self, place: Place) -> bool:
        """Whether anything waits at a place that is not waiting for its ETA."""
        lane, model = place
        depth = self.rows.depth
        return (
            (Stand.LIVE, lane, model) in depth
            or (Stand.RELEGATED, lane, model) in depth
            or (Stand.BATCH, lane, model) in depth
        )

    def wake_next(self, places: Iterable[Place], picked_at: Place) -> None:
        """A bell wakes one slot: whoever picked at `picked_at` wakes the next, as long as there is work.

        A worker's blocking read takes one token, of the first of its bells that has one: no bell behind the first
        that still has one can have lost its last.
        """
        for place in places:
            if self.waits_at(place):
                if place in self.bells:
                    return
                self.bells[place] = 1
            elif place == picked_at:
                self.bells.pop(place, None)

    def _restand(self, now: int, message: Message) -> None:
        self._unstand(message)
        self._stand(now, message)

    def _stand(self, now: int, message: Message) -> None:
        boosted = message.boost_until > now
        priority = message.boost if boosted else message.priority
        message.stand, due = self._stand_of(now, message, priority)
        if message.stand is Stand.LATER:
            message.due = 0
            self.later.add(message.tag, message.eta)
            return
        if message.stand is Stand.EXPIRED:
            message.due = 0
            return
        message.eta = 0
        if not boosted:
            message.boost_until = 0
        late_ms = self._late_ms(now, message, priority)
        # It claims as one with a later deadline does: what is late must not close the door for those behind it.
        message.urgency = order.urgency(message.budget_ms + late_ms)
        message.score = self._score(now, message, priority, late_ms)
        if boosted:
            due = min(due or message.boost_until, message.boost_until)
        message.due = due
        if due:
            self.due.add(message.tag, due)
        self.rows.enter(message)
        if message.stand is Stand.LIVE:
            self.claims.add(message)
        self.ring((message.lane, message.model))

    def _unstand(self, message: Message) -> None:
        if message.stand is Stand.LATER:
            self.later.remove(message.tag)
        if message.stand in (Stand.LATER, Stand.EXPIRED):
            return
        self.due.remove(message.tag)
        self.rows.leave(message)
        if message.stand is Stand.LIVE:
            self.claims.remove(message)

    def _late_ms(self, now: int, message: Message, priority: int) -> int:
        """So much after the end of its start budget a message stands that is no common one."""
        base_ms = self.terms(message.model).base_ms
        if message.stand is Stand.LIVE and message.batch and message.budget_ms:
            return base_ms * order.LATE_BATCH
        return base_ms // order.LATE_PART if self._missed(now, message, priority) else 0

    def _score(self, now: int, message: Message, priority: int, late_ms: int) -> int:
        if message.stand is Stand.RELEGATED:
            key = message.arrival + order.tier_index(priority) * order.RELEGATED_STEP_MS
            return min(key, order.LATEST_KEY_MS) * order.SAME_MS + message.number
        if message.stand is Stand.BATCH:
            return min(message.arrival + message.budget_ms, order.LATEST_KEY_MS) * order.SAME_MS + message.number
        penalty = self._charged(now, message, priority)
        if late_ms:
            key = order.late_key_ms(message.arrival, message.budget_ms, late_ms, penalty)
            return key * order.SAME_MS + message.number
        size_q10 = 0 if message.in_profile else self.terms(message.model).size_q10
        key = order.key_ms(message.arrival, priority, message.budget_ms, message.cost_ms, size_q10, penalty)
        return key * order.SAME_MS + message.number

    def _charged(self, now: int, message: Message, priority: int) -> int:
        """Its penalty (ms), decided when it is first asked for."""
        if message.penalty is None:
            terms = self.terms(message.model)
            message.penalty, message.in_profile = self.claims.charge(now, message, terms, priority)
        return message.penalty

    def _stand_of(self, now: int, message: Message, priority: int) -> tuple[Stand, int]:
        """The stand of a message, and the instant at which time changes it (0: never)."""
        if message.is_expired(now):
            return Stand.EXPIRED, 0
        if message.eta > now:
            return Stand.LATER, 0
        if not message.budget_ms:
            return Stand.LIVE, 0
        joins = message.arrival + message.budget_ms // order.SHARE_OF_BATCH_WINDOW
        if message.batch and now < joins:
            return Stand.BATCH, joins
        if message.fence:
            # It was in time once and lost its worker: it goes back to its place, not behind everybody.
            return Stand.LIVE, 0
        too_late = message.arrival + message.budget_ms + 1
        if now < too_late:
            return Stand.LIVE, too_late
        return (Stand.LIVE if self._missed(now, message, priority) else Stand.RELEGATED), 0

    def _missed(self, now: int, message: Message, priority: int) -> bool:
        """Whether a vip request, no batch, on its first attempt and not beyond a contract, missed its start budget."""
        first = message.budget_ms > 0 and not message.batch and not message.fence
        if not first or order.tier_index(message.priority) or now <= message.arrival + message.budget_ms:
            return False
        self._charged(now, message, priority)
        return not self.claims.beyond_contract(message)

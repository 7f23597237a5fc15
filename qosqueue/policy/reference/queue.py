"""What does each command of the queue do? The executable specification of `qosqueue/broker/lua`.

Every method is the twin of the script of the same name: same arguments, same result, same state afterwards
(tests/differential holds them together). The simulator runs it, so it is quick, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from qosqueue.policy import order
from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.quota import Quota, Verdict
from qosqueue.policy.reference.at_the_door import AtTheDoor
from qosqueue.policy.reference.breakers import Breakers
from qosqueue.policy.reference.checked import check_spent, checked
from qosqueue.policy.reference.claims import Account, Share
from qosqueue.policy.reference.door import Door
from qosqueue.policy.reference.limits import Limit
from qosqueue.policy.reference.message import Aged, Delivery, Message, Nothing, Outcome, Place, Reaped, State
from qosqueue.policy.reference.pick import Pick
from qosqueue.policy.reference.standing import Standing


class ReferenceQueue(AtTheDoor):
    """The whole state of one group, and the commands that change it."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.messages = self.standing.messages
        self.tasks: dict[str, str] = {}
        self.leases = OrderedSet()
        self.dead = OrderedSet()
        self.bias: dict[Account, int] = {}
        self.mean32: dict[str, int] = {}
        self.breakers = Breakers(self.standing.limit)
        self.door = Door(self.standing.limits.running, self.breakers.opens_after_ms, self.breakers.let_in)

    def submit(
        self,
        now: int,
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
        payload: str,
        admitted: bool = False,
        fence: int | None = None,
    ) -> int:
        """Queue one message: 1, 0 if the tag is known, -1 if it must be `admitted` and its task was not.

        `cost_ms` 0: the sender does not know. With a `fence` it is the only message of its task (0 if the task is
        known), and its attempts go on from that fence.
        """
        checked(priority=(priority, 0, 9), max_attempts=(max_attempts, 1, order.LONGEST_MS))
        figures = {"budget_ms": budget_ms, "cost_ms": cost_ms, "delay_ms": delay_ms, "ttl_ms": ttl_ms}
        checked(**{name: (value, 0, order.LONGEST_MS) for name, value in figures.items()})
        if fence is not None:
            checked(fence=(fence, 0, order.LONGEST_MS))
        if admitted and task not in self.door.holds:
            return -1
        if tag in self.messages or (fence is not None and self.has_message(task)):
            return 0
        self.standing.number += 1
        arrival = now + delay_ms
        message = Message(
            tag=tag,
            task=task,
            lane=lane,
            model=model,
            tenant=tenant,
            organisation=organisation,
            priority=priority,
            batch=batch,
            budget_ms=budget_ms,
            predicted_ms=cost_ms,
            cost_ms=self._corrected(tenant, model, cost_ms),
            urgency=order.urgency(budget_ms),
            arrival=arrival,
            eta=arrival if delay_ms else 0,
            number=self.standing.number % order.SAME_MS,
            expires=arrival + ttl_ms if ttl_ms > 0 else 0,
            max_attempts=max_attempts,
            payload=payload,
            fence=fence or 0,
        )
        self.messages[tag] = message
        self.tasks[task] = tag
        self._enter(now, message)
        return 1

    def offer(
        self, now: int, *, request: str, quotas: Sequence[Quota], fence: int | None = None, **message: Any
    ) -> Verdict | None:
        """Admit and submit at once: what is not admitted is not queued. None: it has a fence and its task is known, so
        nothing was asked."""
        if fence is not None and self.has_message(message["task"]):
            return None
        verdict = self.admit(now, request=request, quotas=quotas)
        if verdict.admitted:
            self.submit(now, **message, fence=fence)
        return verdict

    def dispatch(
        self, now: int, *, lease_ms: int, holder: str, places: Sequence[Place], warm: int | None = None
    ) -> Delivery | Nothing:
        """Lease the next message of `places` to `holder`; online work of the first `warm` places (None: all) comes
        before that of the rest."""
        self.standing.move_due(now, order.DUE_PER_PICK)
        split = len(places) if warm is None else warm
        pick = Pick(now, self.standing, self.messages)
        message = pick.first(places[:split], places[split:])
        if message is None:
            for place in places:
                self.standing.bells.pop(place, None)
            return Nothing(pick.retry_after_ms(places))
        passage = self.standing.passages.passage_of(now, message)
        self.standing.passages.count_pick(message)
        self.standing.leave(message)
        message.state = State.LEASED
        message.fence += 1
        message.attempts += 1
        message.holder = holder
        message.started = now
        self.leases.add(message.tag, now + lease_ms)
        self.standing.limits.begin(now, (message.lane, message.model), message.tenant)
        self.standing.wake_next(places, (message.lane, message.model))
        return Delivery(
            tag=message.tag,
            fence=message.fence,
            lane=message.lane,
            model=message.model,
            task=message.task,
            lease_until=now + lease_ms,
            arrival=message.arrival,
            payload=message.payload,
            passage=passage,
        )

    def renew(self, now: int, *, lease_ms: int, leases: Iterable[tuple[str, int]]) -> list[int]:
        """For each (tag, fence): 0 lost, 1 held, 2 held but cancelled by its tenant."""
        checked(lease_ms=(lease_ms, 0, order.LONGEST_MS))
        return [self._renew_one(now + lease_ms, tag, fence) for tag, fence in leases]

    def settle(
        self,
        now: int,
        *,
        tag: str,
        fence: int,
        outcome: Outcome,
        spent: Mapping[str, int] | None = None,
        breakers: Sequence[str] = (),
    ) -> int:
        """End one attempt: 0 stale, 1 as asked, 2 was to be put back or kept, or was not served, but its tenant had
        cancelled it: gone, 3 was to be retried, but this was its last attempt: it still runs.

        `spent` is what a done one has used, as of `release`; None: not known, what was estimated stays charged.
        `breakers` are told that a done one was served.
        """
        check_spent(spent)
        if outcome not in get_args(Outcome):
            raise ValueError(f"outcome: one of {', '.join(get_args(Outcome))} expected, got {outcome!r}")
        message = self._held(tag, fence)
        if message is None:
            return 0
        if outcome == "done":
            self.breakers.observe(now, breakers, served=True)
        if outcome == "retry" and not message.cancel and message.attempts >= message.max_attempts:
            return 3
        self._leave_lease(now, message)
        if outcome in ("requeue", "retry") and not message.cancel:
            message.attempts -= outcome == "requeue"
            self._enter(now, message)
            return 1
        if outcome == "dead" and not message.cancel:
            self._bury(now, message)
            return 1
        unused_ms = message.cost_ms
        if outcome == "done":
            actual_ms = max(0, now - message.started)
            unused_ms -= min(actual_ms, order.LARGEST_COST_MS)
            if not message.cancel:
                self._learn(message, actual_ms)
        self._give_back(now, message, unused_ms)
        if outcome == "done" and spent is not None and self.tasks.get(message.task) == tag:
            self.door.release(now, message.task, spent)
        self._forget(message, was_served=outcome == "done")
        return 2 if outcome != "done" and message.cancel else 1

    def withdraw(self, *, task: str) -> int:
        """Take a message back: 0 unknown, 1 it is gone, 2 it runs and its holder was told to stop."""
        message = self.messages.get(self.tasks.get(task, ""))
        if message is None:
            self.tasks.pop(task, None)
            self.door.end(task, was_served=False)
            return 0
        if message.state is State.LEASED:
            message.cancel = True
            return 2
        if message.state is State.QUEUED:
            self._drop(message)
        else:
            self.dead.remove(message.tag)
            self._forget(message)
        return 1

    def rerank(
        self,
        now: int,
        *,
        task: str,
        priority: int | None = None,
        budget_ms: int | None = None,
        boost: int | None = None,
        boost_ms: int = 0,
        charge: bool = False,
    ) -> int:
        """Move a queued message: 1, or 0 if the task is not queued.

        `priority` and `budget_ms` (from its arrival) replace its own; `boost` is a priority that counts for `boost_ms`
        (0 ends a boost); `charge` decides its penalty afresh, with the shares of now, for what was
        claimed before it when it joined.
        """
        given = {"priority": (priority, 9), "boost": (boost, 9)}
        given |= {"budget_ms": (budget_ms, order.LONGEST_MS), "boost_ms": (boost_ms, order.LONGEST_MS)}
        checked(**{name: (value, 0, most) for name, (value, most) in given.items() if value is not None})
        message = self.messages.get(self.tasks.get(task, ""))
        if message is None or message.state is not State.QUEUED:
            return 0
        self.standing.leave(message)
        if priority is not None:
            message.priority = priority
        if budget_ms is not None:
            message.budget_ms = budget_ms
        if boost is not None:
            message.boost = boost
            message.boost_until = now + boost_ms
        if charge:
            message.penalty = None
        self.standing.enter(now, message)
        return 1

    def replay(self, now: int, *, task: str) -> int:
        """Queue a dead letter again, as if it had just arrived, with all its attempts: 1, or 0 if it is not dead."""
        message = self.messages.get(self.tasks.get(task, ""))
        if message is None or message.state is not State.DEAD:
            return 0
        self.dead.remove(message.tag)
        if message.expires:
            message.expires += now - message.arrival
        message.arrival = now
        message.attempts = 0
        message.penalty, message.in_profile, message.claimed = None, False, None
        self._enter(now, message)
        return 1

    def discard(self, *, tag: str) -> int:
        """Forget a dead letter for good: 1, or 0 if it is not dead; what waits or runs again is left alone."""
        message = self.messages.get(tag)
        if message is None or message.state is not State.DEAD:
            return 0
        self.dead.remove(message.tag)
        self._forget(message)
        return 1

    def reap(self, now: int, *, limit: int) -> Reaped:
        """Requeue lost leases (or call them dead), drop what expired in the queue."""
        checked(limit=(limit, 1, order.LONGEST_MS))
        requeued, dead, withdrawn, fences = [], [], [], []
        for tag in self.leases.up_to(now, limit):
            message = self.messages[tag]
            self._leave_lease(now, message)
            if message.cancel:
                self._forget(message)
                withdrawn.append(message.task)
            elif message.attempts >= message.max_attempts:
                self._bury(now, message)
                dead.append(message.task)
            else:
                self._enter(now, message)
                requeued.append(message.task)
                fences.append(message.fence)
        expired = [self.messages[tag] for tag in self.standing.expiry.up_to(now, limit)]
        for message in expired:
            self._drop(message)
        gone = tuple(message.task for message in expired)
        return Reaped(tuple(requeued), tuple(dead), gone, tuple(withdrawn), tuple(fences))

    def age(self, now: int, *, limit: int) -> Aged:
        """Make up to `limit` moves of each kind that time has brought."""
        checked(limit=(limit, 1, order.LONGEST_MS))
        return self.standing.move_due(now, limit)

    def purge(self, *, lane: str, limit: int) -> int:
        """Drop up to `limit` queued messages of a lane, oldest first; how many."""
        checked(limit=(limit, 1, order.LONGEST_MS))
        arrivals = self.standing.arrivals.get(lane)
        tags = [] if arrivals is None else arrivals.up_to(2 * order.LONGEST_MS, limit)
        for tag in tags:
            self._drop(self.messages[tag])
        return len(tags)

    def limit(self, now: int, *, name: str, most: int | None, for_ms: int = 0) -> None:
        """Let at most `most` attempts run under a name (see limits.py), for so long (0: for good); None lifts it."""
        checked(most=(most or 0, 0, order.LONGEST_MS), for_ms=(for_ms, 0, order.LONGEST_MS))
        self.standing.limit(now, name, None if most is None else Limit(most, now + for_ms if for_ms else 0))

    def share(self, organisation: str, share: Share | None) -> None:
        """What an organisation was promised (None: nothing of its own any more); counts from its next request on (see
        `rerank`, `charge`)."""
        if share is None:
            self.standing.claims.shares.pop(organisation, None)
        else:
            self.standing.claims.shares[organisation] = share

    def pool(self, model: str, terms: order.PoolTerms) -> None:
        """What the order knows of a model's pool."""
        self.standing.pools[model] = terms

    def mean_service_ms(self, model: str) -> int:
        """The running mean of what a model's requests took; 0 before the first."""
        return self.mean32.get(model, 0) >> order.MEAN_STEP_BITS

    def _corrected(self, tenant: str, model: str, predicted_ms: int) -> int:
        if not predicted_ms:
            return self.standing.terms(model).mean_ms or order.DEFAULT_COST_MS
        bias = self.bias.get((tenant, model), order.Q10) if tenant else order.Q10
        return min(max(1, predicted_ms * bias >> 10), order.LARGEST_COST_MS)

    def _learn(self, message: Message, actual_ms: int) -> None:
        mean32 = self.mean32.get(message.model)
        bits = order.MEAN_STEP_BITS
        self.mean32[message.model] = actual_ms << bits if mean32 is None else mean32 + actual_ms - (mean32 >> bits)
        if message.tenant and message.predicted_ms:
            account = message.tenant, message.model
            self.bias[account] = order.next_bias(self.bias.get(account, order.Q10), message.predicted_ms, actual_ms)

    def has_message(self, task: str) -> bool:
        """Whether the order knows a task."""
        return self.tasks.get(task, "") in self.messages

    def _held(self, tag: str, fence: int) -> Message | None:
        message = self.messages.get(tag)
        if message is None or message.state is not State.LEASED or message.fence != fence:
            return None
        return message

    def _renew_one(self, until: int, tag: str, fence: int) -> int:
        message = self._held(tag, fence)
        if message is None:
            return 0
        self.leases.add(tag, until)
        return 2 if message.cancel else 1

    def _enter(self, now: int, message: Message) -> None:
        """It begins to wait."""
        self.standing.enter(now, message)
        self.standing.passages.note_arrival(now, message)

    def _leave_lease(self, now: int, message: Message) -> None:
        self.leases.remove(message.tag)
        self.standing.end(now, message)

    def _drop(self, message: Message) -> None:
        """It leaves the queue without service: its contract pays nothing for it."""
        self.standing.leave(message)
        self._give_back(0, message, message.cost_ms)
        self._forget(message)

    def _give_back(self, now: int, message: Message, unused_ms: int) -> None:
        self.standing.claims.give_back(now, message, self.standing.terms(message.model), unused_ms)

    def _forget(self, message: Message, *, was_served: bool = False) -> None:
        del self.messages[message.tag]
        if self.tasks.get(message.task) == message.tag:
            del self.tasks[message.task]
            self.door.end(message.task, was_served=was_served)

    def _bury(self, now: int, message: Message) -> None:
        message.state = State.DEAD
        self.dead.add(message.tag, now)
        if self.tasks.get(message.task) == message.tag:
            self.door.end(message.task, was_served=False)

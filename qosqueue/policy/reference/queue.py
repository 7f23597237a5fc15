"""What does each command of the queue do? The executable specification of `qosqueue/broker/lua`.

Every method is the twin of the script of the same name: same arguments, same result, same state afterwards
(tests/differential holds them together). Slow and clear on purpose: lists are sorted where Redis keeps an index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from qosqueue.policy.profile import rank
from qosqueue.policy.reference.message import Delivery, Message, Reaped, State

BELL_DEPTH = 16

Place = tuple[str, str]  # lane, model


class ReferenceQueue:
    """The whole state of one group: messages, who owns which task id, bells, and the turn of the aging lane."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.tasks: dict[str, str] = {}
        self.places: set[Place] = set()
        self.bells: dict[Place, int] = {}
        self.turn = 0

    def submit(
        self,
        now: int,
        *,
        tag: str,
        task: str,
        lane: str,
        model: str,
        band: int,
        budget_ms: int,
        ttl_ms: int,
        max_attempts: int,
        payload: str,
    ) -> int:
        """Queue one message; its position in its lane and model (1 is next), or 0 if the tag is known."""
        if tag in self.messages:
            return 0
        deadline = now + budget_ms
        message = Message(
            tag=tag,
            task=task,
            lane=lane,
            model=model,
            rank=rank(band, deadline),
            arrival=now,
            deadline=deadline,
            expires=now + ttl_ms if ttl_ms > 0 else 0,
            max_attempts=max_attempts,
            payload=payload,
        )
        self.messages[tag] = message
        self.tasks[task] = tag
        self.places.add((lane, model))
        self._enter_queue(message)
        return self.ready([(lane, model)]).index(message) + 1

    def dispatch(
        self, now: int, *, lease_ms: int, holder: str, aged_one_in: int, places: Sequence[Place]
    ) -> Delivery | None:
        """Lease the first message of `places` to `holder`, or None if none is queued."""
        ready = self.ready(places)
        if not ready:
            for place in places:
                self.bells.pop(place, None)
            return None
        chosen = ready[0]
        aged = sorted((message for message in ready if message.aged), key=lambda each: (each.arrival, each.tag))
        if aged:
            self.turn += 1
            if self.turn >= aged_one_in:
                chosen = aged[0]
                self.turn = 0
        chosen.state = State.LEASED
        chosen.aged = False
        chosen.fence += 1
        chosen.attempts += 1
        chosen.holder = holder
        chosen.lease_until = now + lease_ms
        for place in places:
            if not self.ready([place]):
                self.bells.pop(place, None)
            else:
                self.bells.setdefault(place, 1)
        return Delivery(
            tag=chosen.tag,
            fence=chosen.fence,
            lane=chosen.lane,
            model=chosen.model,
            task=chosen.task,
            lease_until=chosen.lease_until,
            arrival=chosen.arrival,
            payload=chosen.payload,
        )

    def renew(self, now: int, *, lease_ms: int, leases: Iterable[tuple[str, int]]) -> list[int]:
        """For each (tag, fence): 0 lost, 1 held, 2 held but cancelled by its tenant."""
        return [self._renew_one(now + lease_ms, tag, fence) for tag, fence in leases]

    def settle(self, now: int, *, tag: str, fence: int, outcome: Literal["done", "requeue", "dead"]) -> int:
        """End one attempt: 0 stale, 1 as asked, 2 was to be requeued but its tenant had cancelled it."""
        message = self._held(tag, fence)
        if message is None:
            return 0
        if outcome == "requeue" and not message.cancel:
            message.attempts -= 1
            self._leave_lease(message)
            self._enter_queue(message)
            return 1
        if outcome == "dead":
            self._leave_lease(message)
            message.state = State.DEAD
            message.dead_since = now
            return 1
        self._forget(message)
        return 1 if outcome == "done" else 2

    def withdraw(self, *, task: str) -> int:
        """Take a message back: 0 unknown, 1 it is gone, 2 it runs and its holder was told to stop."""
        message = self.messages.get(self.tasks.get(task, ""))
        if message is None:
            return 0
        if message.state is State.LEASED:
            message.cancel = True
            return 2
        self._forget(message)
        return 1

    def rerank(self, now: int, *, lane: str, starves_after_ms: int, limit: int) -> list[str]:
        """Let the oldest of a lane that starve into the aging lane; the task ids lifted."""
        waiting = sorted(
            (each for each in self._in(State.QUEUED) if each.lane == lane), key=lambda each: (each.arrival, each.tag)
        )
        starving = [each for each in waiting if each.arrival <= now - starves_after_ms][:limit]
        lifted = [each.task for each in starving if not each.aged]
        for message in starving:
            message.aged = True
        return lifted

    def reap(self, now: int, *, limit: int) -> Reaped:
        """Requeue lost leases (or call them dead), drop what expired in the queue."""
        requeued, dead, withdrawn, fences = [], [], [], []
        leased = sorted((_until(each), each.tag) for each in self._in(State.LEASED))
        for until, tag in leased[:limit]:
            if until > now:
                break
            message = self.messages[tag]
            self._leave_lease(message)
            if message.cancel:
                self._forget(message)
                withdrawn.append(message.task)
            elif message.attempts >= message.max_attempts:
                message.state = State.DEAD
                message.dead_since = now
                dead.append(message.task)
            else:
                self._enter_queue(message)
                requeued.append(message.task)
                fences.append(message.fence)
        late = sorted(
            (each for each in self._in(State.QUEUED) if 0 < each.expires <= now),
            key=lambda each: (each.expires, each.tag),
        )[:limit]
        for message in late:
            self._forget(message)
        expired = tuple(message.task for message in late)
        return Reaped(tuple(requeued), tuple(dead), expired, tuple(withdrawn), tuple(fences))

    def purge(self, *, lane: str, limit: int) -> int:
        """Drop up to `limit` queued messages of a lane, oldest first; how many."""
        waiting = sorted(
            (each for each in self._in(State.QUEUED) if each.lane == lane), key=lambda each: (each.arrival, each.tag)
        )[:limit]
        for message in waiting:
            self._forget(message)
        return len(waiting)

    def ready(self, places: Iterable[Place]) -> list[Message]:
        """What is queued at `places`, in the order of service."""
        wanted = set(places)
        return sorted(
            (each for each in self._in(State.QUEUED) if (each.lane, each.model) in wanted),
            key=lambda each: (each.rank, each.tag),
        )

    def _in(self, state: State) -> list[Message]:
        return [message for message in self.messages.values() if message.state is state]

    def _held(self, tag: str, fence: int) -> Message | None:
        message = self.messages.get(tag)
        if message is None or message.state is not State.LEASED or message.fence != fence:
            return None
        return message

    def _renew_one(self, until: int, tag: str, fence: int) -> int:
        message = self._held(tag, fence)
        if message is None:
            return 0
        message.lease_until = until
        return 2 if message.cancel else 1

    def _enter_queue(self, message: Message) -> None:
        message.state = State.QUEUED
        place = (message.lane, message.model)
        self.bells[place] = min(self.bells.get(place, 0) + 1, BELL_DEPTH)

    def _leave_lease(self, message: Message) -> None:
        message.holder = None
        message.lease_until = None

    def _forget(self, message: Message) -> None:
        del self.messages[message.tag]
        if self.tasks.get(message.task) == message.tag:
            del self.tasks[message.task]


def _until(message: Message) -> int:
    if message.lease_until is None:
        raise AssertionError(f"leased message {message.tag} has no lease")
    return message.lease_until

"""How does a synchronous request get its answer?

It waits in the same order as every other; its answer comes over the reply stream of this web process. It is
recorded once, when it ended, off the path that the client waits on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import redis
import structlog

from qosqueue.broker.publish import Publisher
from qosqueue.broker.replies import Inbox, Reply, ReplyReader
from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.profile import Profile
from qosqueue.policy.refusal import Rates, Refusal
from qosqueue.policy.road import Trouble, trouble_of
from qosqueue.service import decided as decisions
from qosqueue.service.admission import Admission, Plan, decided
from qosqueue.service.detours import Detours
from qosqueue.service.failures import EXPIRED, WORKER_LOST
from qosqueue.service.finished import FinishedRequests
from qosqueue.service.queues import Queues
from qosqueue.service.requests import Admitted, JobRequest, new_row, wire_message
from qosqueue.service.troubles import is_deferred, would_be_a_job
from qosqueue.service.withdrawals import Withdrawals
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decision
from qosqueue.store.records import Tenant

IDLE_S = 0.5
GONE_AFTER_LOOKS = 4
# A worker's last word may come just before it settles.
SETTLED_WITHIN_S = 0.5
LOOK_AGAIN_S = 0.01

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Queued:
    """Still in the queue; `position` 1 is next in its lane, None when the broker did not say."""

    position: int | None


@dataclass(frozen=True)
class Started:
    """An attempt began on `worker`, `queued_ms` after the request came."""

    worker: str
    queued_ms: int


@dataclass(frozen=True)
class Chunk:
    """Part of the answer: the `choices` of an OpenAI chunk."""

    choices: list[dict[str, Any]]


@dataclass(frozen=True)
class Done:
    """The end of the answer. `result` is the body of an OpenAI chat.completion; times in ms from the arrival, but for
    `gpu_ms`: for so long it held a slot."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    result: dict[str, Any]
    queued_ms: int
    first_token_ms: int
    gpu_ms: int = 0


@dataclass(frozen=True)
class Failed:
    """The request failed; `error` has status, code, message, param. `as_job`: its tenant's policy would have it taken
    as a job instead."""

    error: dict[str, Any]
    as_job: bool = False


@dataclass(frozen=True)
class Detoured:
    """Its model has failed, and another one (a fallback) is to answer. Nothing was answered so far."""

    model: str
    detours: tuple[str, ...]


Event = Queued | Started | Chunk | Done | Failed | Detoured


class OnlineCall:
    """One synchronous request on its way. Close it always: closing what has not ended frees its slot."""

    def __init__(
        self,
        tenant: Tenant,
        row: dict[str, Any],
        plan: Plan,
        admitted: Admitted,
        around: Callable[[Plan, int, bool], tuple[Plan, Admitted] | None],
        replies: Inbox,
        reader: ReplyReader,
        queues: Queues,
        scripts: Scripts,
        finished: FinishedRequests,
        withdrawals: Withdrawals,
    ) -> None:
        self.id: str = row["id"]
        self._tenant = tenant
        self._row = row
        self._plan = plan
        self._admitted = admitted
        self._around = around
        # Made when all is over: nobody waits for them.
        self._decided: list[Callable[[], Decision]] = [
            *map(_made, plan.request.changed),
            partial(decisions.admitted, admitted, row["created_ms"]),
        ]
        self._replies = replies
        self._reader = reader
        self._queues = queues
        self._scripts = scripts
        self._finished = finished
        self._withdrawals = withdrawals
        self._fence = 0
        self._began = False
        self._may_defer = plan.request.may_defer
        self._ready: deque[Event] = deque()
        self._ended = False
        self._looks_without_trace = 0
        # Nothing of it is left to take back: a worker gave the last word, or the dead letter is kept.
        self._over = False
        self._closed = threading.Lock()

    @property
    def model(self) -> str:
        """The model that answers: a fallback's name, if it came to that."""
        return self._plan.model.name

    @property
    def profile(self) -> Profile:
        """How the request is ranked."""
        return self._plan.profile

    @property
    def rates(self) -> Rates:
        """What its tenant has left."""
        return self._admitted.rates

    @property
    def detours(self) -> tuple[str, ...]:
        """What was changed of what its tenant had asked for."""
        return self._plan.request.detours

    def stays_a_stream(self) -> None:
        """Its client has the head of a stream: it cannot become a job any more, so nothing is kept back for that."""
        self._may_defer = False

    def events(self, idle_s: float = IDLE_S) -> Iterator[Event]:
        """What happens, until Done or Failed. While nothing does, a Queued or None-position Queued each `idle_s`."""
        while event := self._next(idle_s):
            yield event

    def batches(self, idle_s: float = IDLE_S) -> Iterator[list[Event]]:
        """The same events, as many at once as are ready."""
        while event := self._next(idle_s):
            batch = [event, *self._ready]
            self._ready.clear()
            yield batch

    def _next(self, idle_s: float) -> Event | None:
        """The next event, None after the last one."""
        while not self._ready and not self._ended:
            try:
                replies = self._replies.get(timeout=idle_s)
            except queue.Empty:
                self._ready.append(self._look())
                continue
            for reply in replies:
                event = self._take(reply)
                if event is not None:
                    self._ready.append(event)
                    if isinstance(event, Done | Failed):
                        self._ended = True
                        break
        return self._ready.popleft() if self._ready else None

    def _look(self) -> Event:
        """What is known of the request when nothing was heard of it for a while."""
        # Its time to live is for waiting: what has begun is not cut off by it.
        if self._row["started_ms"] is None and now_ms() > self._row["expires_ms"]:
            self._ended = True
            return self._fail(JobStatus.EXPIRED, EXPIRED)
        position = self._queues.position_of(self.id)
        self._looks_without_trace = 0 if position.known else self._looks_without_trace + 1
        self._over = position.dead
        if position.dead or self._looks_without_trace >= GONE_AFTER_LOOKS:
            self._ended = True
            return self._lost()
        return Queued(position.number)

    def close(self) -> None:
        """Let go of the request; if it has not ended, take it out of the queue or stop it where it runs."""
        if not self._closed.acquire(blocking=False):
            return
        self._reader.forget(self.id)
        if self._over:
            return
        try:
            self._scripts.withdraw(task=self.id)
        except redis.RedisError as error:
            # Else it would hold its slot, or its place in the queue, although nobody waits.
            self._withdrawals.add(self.id)
            log.warning("a request whose client left cannot be withdrawn now", request=self.id, error=str(error))
        self._end(JobStatus.CANCELLED)

    def _take(self, reply: Reply) -> Event | None:
        if reply.fence < self._fence:
            return None  # a late word of an attempt that lost its lease
        if reply.fence > self._fence:
            if self._began:
                # The client has part of another attempt's answer: it must not get a second beginning.
                return self._lost()
            self._fence = reply.fence
        data = reply.data
        match reply.kind:
            case "started":
                self._row |= {"started_ms": now_ms(), "worker": data["worker"], "attempts": reply.fence}
                met = (reply.fence, data["worker"], data.get("passage", ""))
                self._decided.append(partial(decisions.dispatched, *met, at_ms=self._row["started_ms"]))
                return Started(data["worker"], data["queued_ms"])
            case "chunk":
                if not self._began:
                    self._began = True
                    self._row["first_token_ms"] = now_ms()
                return Chunk(data["choices"])
            case "done":
                self._row |= {
                    "result": data["result"],
                    "prompt_tokens": data["prompt_tokens"],
                    "completion_tokens": data["completion_tokens"],
                    "gpu_ms": data.get("gpu_ms", 0),
                    "first_token_ms": self._row["created_ms"] + data["first_token_ms"],
                }
                self._over = True
                self._end(JobStatus.SUCCEEDED)
                return Done(**data)
            case "failed":
                is_of_model = not self._began and trouble_of(data["code"]) is Trouble.MODEL
                # Unless nobody knows whether the way that was looked for was found.
                self._over = True
                if is_of_model and self._went_around():
                    return Detoured(self.model, self.detours)
                failed = self._fail(JobStatus.FAILED, data)
                if is_of_model and is_deferred(self._plan, Trouble.MODEL):
                    return Failed(data | {"message": would_be_a_job(self._plan, data["message"])}, as_job=True)
                return failed

    def _went_around(self) -> bool:
        """Whether the request was queued again in another way, after its model has failed it."""
        try:
            went = self._around(self._plan, self._fence, self._may_defer)
        except (BrokerUnavailable, StoreUnavailable) as error:
            self._over = isinstance(error, StoreUnavailable)
            log.warning("a failed request finds no other way now", request=self.id, error=str(error))
            return False
        if went is None:
            return False
        self._over = False
        new = went[0].request.changed[len(self._plan.request.changed) :]
        self._plan, self._admitted = went
        self._decided += [*map(_made, new), partial(decisions.admitted, self._admitted, now_ms())]
        times = _times(self._row["created_ms"], self._plan)
        self._row = new_row(self.id, self._tenant, self._plan.request, self._plan.profile, **times)
        return True

    def _lost(self) -> Failed:
        return self._fail(JobStatus.FAILED, WORKER_LOST)

    def _fail(self, status: JobStatus, error: dict[str, Any]) -> Failed:
        self._row["error"] = error
        self._end(status)
        return Failed(error)

    def _end(self, status: JobStatus) -> None:
        if "status" not in self._row:
            self._row |= {"status": status, "finished_ms": now_ms(), "fence": self._fence}
            if status is JobStatus.CANCELLED and self._row["started_ms"] is not None:
                # Its worker has nobody to tell what it used: the time until its client left is known here.
                self._row["gpu_ms"] = max(0, self._row["finished_ms"] - self._row["started_ms"])
            self._finished.add(self._row, self._decided, at_once=self._plan.request.recorded_at_once)


class Online:
    """Synchronous requests of this web process."""

    def __init__(
        self,
        admission: Admission,
        publisher: Publisher,
        reader: ReplyReader,
        queues: Queues,
        scripts: Scripts,
        finished: FinishedRequests,
        withdrawals: Withdrawals,
    ) -> None:
        self._detours = Detours(admission)
        self._publisher = publisher
        self._reader = reader
        self._queues = queues
        self._scripts = scripts
        self._finished = finished
        self._withdrawals = withdrawals

    def start(self, tenant: Tenant, request: JobRequest) -> OnlineCall | Refusal:
        """Queue one request, if need be in another way. Raises BrokerUnavailable: then it was not accepted."""
        request_id, created_ms = request.id, now_ms()
        replies = self._reader.expect(request_id)

        def offer(plan: Plan, fence: int | None = None) -> Admitted | Refusal:
            message = wire_message(request_id, plan.request, created_ms, plan.profile, reply=self._reader.address)
            told = (plan.model.name, tenant.id, tenant.counts_as, plan.profile, message, plan.quotas)
            exchange = partial(self._reader.exchange, otherwise=self._scripts.wire.exchange)
            give_up_s = time.monotonic() + SETTLED_WITHIN_S
            while (verdict := self._publisher.offer(request_id, *told, exchange, fence=fence)) is None:
                if time.monotonic() > give_up_s:
                    raise BrokerUnavailable("the message that has failed is still in the queue")
                threading.Event().wait(LOOK_AGAIN_S)
            return decided(plan, verdict)

        def around(plan: Plan, fence: int, may_defer: bool) -> tuple[Plan, Admitted] | None:
            plan = replace(plan, request=replace(plan.request, may_defer=may_defer))
            # The fence goes on: a late word of the model that has failed is not the other one's.
            other = self._detours.other_model(tenant, plan)
            return None if other is None else self._detours.go_on(tenant, plan, other, partial(offer, fence=fence))

        try:
            went = self._detours.go(tenant, request, offer)
        except BaseException as error:
            self._reader.forget(request_id)
            if isinstance(error, BrokerUnavailable):
                # Perhaps only the answer was lost: nobody would read what the worker makes of the message.
                self._withdrawals.add(request_id)
            raise
        if isinstance(went, Refusal):
            self._reader.forget(request_id)
            return went
        return OnlineCall(
            tenant,
            new_row(request_id, tenant, went[0].request, went[0].profile, **_times(created_ms, went[0])),
            *went,
            around,
            replies,
            self._reader,
            self._queues,
            self._scripts,
            self._finished,
            self._withdrawals,
        )

    def close(self) -> None:
        """Stop reading replies, withdraw what still is to be, and write down what has ended."""
        self._reader.close()
        self._withdrawals.close()
        self._finished.close()


def _times(created_ms: int, plan: Plan) -> dict[str, int]:
    return {"created_ms": created_ms, "queued_ms": created_ms, "expires_ms": created_ms + plan.profile.ttl_ms}


def _made(decision: Decision) -> Callable[[], Decision]:
    return lambda: decision

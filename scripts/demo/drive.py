"""How is the recorded load sent to a running system, each request at its instant?

Every time is counted from the instant at which the request was due, not from when this process got round to
sending it: a slow client must not make a slow system look fast.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from qosqueue.policy.terms import TaskType
from scripts.demo import clients
from scripts.demo.load import STREAMS, Arrival
from scripts.demo.measure import Outcome
from scripts.demo.system import DemoFailed, Site

BEGIN_IN_S = 0.3
TELL_EVERY_S = 0.25
BULK_SENDERS = 2
AT_ONCE = 4
WARM_WITHIN_S = 30.0
JOIN_WITHIN_S = 15.0
SUCCEEDED = "succeeded"
FAULTS = (clients.Refused, OSError, http.client.HTTPException)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Told now and then: seconds since the start of the window, and what has ended so far.
Tell = Callable[[float, Sequence[Outcome]], None]


def warm_up(site: Site, load: Sequence[Arrival]) -> None:
    """One request of each tier, together and not counted. Raises DemoFailed if one of them does not succeed."""
    until = time.time() + WARM_WITHIN_S
    first = [next(arrival for arrival in load if arrival.tier == tier) for tier in STREAMS]
    try:
        ends = _together(lambda arrival: _asked_once(site, arrival, until), first)
    except FAULTS as fault:
        raise DemoFailed(f"the warm-up failed: {fault}") from fault
    for arrival, ended in zip(first, ends, strict=True):
        if ended != SUCCEEDED:
            raise DemoFailed(f"the warm-up of {arrival.tier} was {ended} after {WARM_WITHIN_S:g} s at most")


def _together(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do the work for all items, a few at once; raises what it raised. An interrupt does not wait for the rest."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _asked_once(site: Site, arrival: Arrival, until: float) -> str:
    """Send one request and follow it; the status that it came to."""
    if arrival.stream.task_type is TaskType.ONLINE:
        seen = clients.chat(site, arrival, until)
        return SUCCEEDED if seen.ended_at is not None and seen.first_token_at is not None else "not streamed whole"
    job = clients.follow(site, arrival.tier, clients.submit(site, arrival, until), until)
    return str(job["status"])


def drive(site: Site, load: Sequence[Arrival], seconds: float, tell: Tell) -> list[Outcome]:
    """Send the load, wait for the end of the window, take back what is left; one outcome for each request."""
    return _Drive(site, seconds).run(load, tell)


class _Drive:
    def __init__(self, site: Site, seconds: float) -> None:
        self._site = site
        self._seconds = seconds
        self._began = time.time() + BEGIN_IN_S
        self._until = self._began + seconds
        self._outcomes: list[Outcome] = []
        self._left: list[tuple[Arrival, str]] = []
        self._bulk: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._submitted: queue.SimpleQueue[tuple[Arrival, dict[str, Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def run(self, load: Sequence[Arrival], tell: Tell) -> list[Outcome]:
        senders = [self._start(self._send_bulk) for _ in range(BULK_SENDERS)]
        self._start(self._follow_bulk)
        for arrival in load:
            self._wait_until(self._began + arrival.at_s, tell)
            if arrival.stream.task_type is TaskType.BATCH:
                self._bulk.put(arrival)
            else:
                self._start(self._chat if arrival.stream.task_type is TaskType.ONLINE else self._job, arrival)
        for _ in senders:
            self._bulk.put(None)
        self._wait_until(self._until, tell)
        for thread in senders:
            thread.join(JOIN_WITHIN_S)
        self._submitted.put(None)
        for thread in self._threads:
            thread.join(JOIN_WITHIN_S)
        self._take_back()
        if len(self._outcomes) != len(load):
            raise DemoFailed(f"{len(load) - len(self._outcomes)} of {len(load)} requests had no outcome")
        return list(self._outcomes)

    def _start(self, work: Callable[..., None], *given: Arrival) -> threading.Thread:
        # Daemons: an interrupt must not wait for answers.
        thread = threading.Thread(target=work, args=given, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _wait_until(self, instant: float, tell: Tell) -> None:
        pause = threading.Event()
        while (left_s := instant - time.time()) > 0:
            pause.wait(min(left_s, TELL_EVERY_S))
            tell(time.time() - self._began, self._outcomes)

    def _chat(self, arrival: Arrival) -> None:
        try:
            seen = clients.chat(self._site, arrival, self._until)
        except FAULTS as fault:
            self._outcomes.append(Outcome(arrival.tier, fault=self._fault(fault)))
            return
        due = self._began + arrival.at_s
        self._outcomes.append(
            Outcome(
                arrival.tier,
                first_token_ms=_after(due, seen.first_token_at),
                end_ms=_after(due, seen.ended_at),
                tokens=seen.tokens,
            )
        )

    def _job(self, arrival: Arrival) -> None:
        job = self._submit(arrival)
        if job is not None:
            self._follow(arrival, job)

    def _send_bulk(self) -> None:
        while (arrival := self._bulk.get()) is not None:
            job = self._submit(arrival)
            if job is not None:
                self._submitted.put((arrival, job))

    def _follow_bulk(self) -> None:
        while (given := self._submitted.get()) is not None:
            self._follow(*given)

    def _submit(self, arrival: Arrival) -> dict[str, Any] | None:
        try:
            return clients.submit(self._site, arrival, self._until)
        except FAULTS as fault:
            self._outcomes.append(Outcome(arrival.tier, fault=self._fault(fault)))
            return None

    def _follow(self, arrival: Arrival, job: dict[str, Any]) -> None:
        try:
            job = clients.follow(self._site, arrival.tier, job, self._until)
        except FAULTS as fault:
            self._outcomes.append(Outcome(arrival.tier, fault=self._fault(fault)))
            return
        if job["status"] in clients.TERMINAL:
            self._note(arrival, job)
        else:
            self._left.append((arrival, job["id"]))

    def _take_back(self) -> None:
        _together(self._cancel, self._left)

    def _cancel(self, left: tuple[Arrival, str]) -> None:
        arrival, job_id = left
        try:
            self._note(arrival, clients.cancel(self._site, arrival.tier, job_id))
        except FAULTS as fault:
            self._outcomes.append(Outcome(arrival.tier, fault=f"cancel: {fault}"))

    def _note(self, arrival: Arrival, job: dict[str, Any]) -> None:
        """A job's times are those of its record: when it ended, not when somebody looked."""
        if job["status"] != SUCCEEDED or job["finished_at"] > self._until:
            fault = job["error"]["message"] if job["error"] is not None else None
            self._outcomes.append(Outcome(arrival.tier, fault=fault))
            return
        due = self._began + arrival.at_s
        self._outcomes.append(
            Outcome(
                arrival.tier,
                first_token_ms=_after(due, job["first_token_at"]),
                end_ms=_after(due, job["finished_at"]),
                tokens=job["usage"]["completion_tokens"],
            )
        )

    def _fault(self, fault: Exception) -> str | None:
        """Why a request failed; None if only the window was over."""
        return None if isinstance(fault, TimeoutError) and time.time() >= self._until else f"{fault}"


def _after(due: float, instant: float | None) -> float | None:
    return None if instant is None else max(0.0, (instant - due) * 1000)

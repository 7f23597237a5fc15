"""How does a program call the API and wait for each answer?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx2

from qosqueue.client import calls
from qosqueue.client.answers import ApiError, Job, JobNotDone, Piece, Position
from qosqueue.client.calls import CHAT, Call

Told = TypeVar("Told")

TIMEOUT_S = 30.0


class Client:
    """One tenant's calls, by its key. All methods raise ApiError; may be used by many threads.

    A refusal that names a time, and a lost connection where a repetition is safe, are tried again, three times in all.
    """

    def __init__(
        self, url: str, key: str, *, timeout_s: float = TIMEOUT_S, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self._timeout_s = timeout_s
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        body: dict[str, Any],
        *,
        endpoint: str = CHAT,
        task_type: str = "async",
        latency_budget_ms: int | None = None,
        deadline_ms: int | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job: `body` is what `endpoint` takes. It is recorded when this returns; `wait` has its answer.

        `latency_budget_ms`: it should begin within so long; `deadline_ms`: after so long it is not wanted any more.
        """
        return self._do(
            calls.submit(
                body,
                endpoint=endpoint,
                task_type=task_type,
                latency_budget_ms=latency_budget_ms,
                deadline_ms=deadline_ms,
                metadata=metadata,
                idempotency_key=idempotency_key,
            )
        )

    def job(self, job_id: str) -> Job:
        """One job as it stands."""
        return self._do(calls.job(job_id))

    def wait(self, job_id: str, timeout_s: float = 600.0) -> Job:
        """The job as soon as it has ended; raises JobNotDone when `timeout_s` is over."""
        until = time.monotonic() + timeout_s
        while not (job := self._do(calls.job(job_id, until - time.monotonic()))).done:
            if time.monotonic() >= until:
                raise JobNotDone(job, timeout_s)
        return job

    def jobs(self, page: int = 100) -> Iterator[Job]:
        """All jobs of the tenant, newest first, fetched `page` at a time."""
        before: str | None = None
        while True:
            found, before = self._do(calls.jobs(page, before))
            yield from found
            if before is None:
                return

    def cancel(self, job_id: str) -> Job:
        """Take a job back: the job as it then stands. One that has ended stays as it ended."""
        return self._do(calls.cancel(job_id))

    def explain(self, job_id: str) -> dict[str, Any]:
        """Why the job waited as it did, or what it waits for: the API's `explain` object."""
        return self._do(calls.explain(job_id))

    def chat(self, body: dict[str, Any], *, latency_budget_ms: int | None = None) -> dict[str, Any]:
        """Ask and wait for the whole answer: OpenAI's chat.completion."""
        return self._do(calls.chat(body, latency_budget_ms))

    def stream(self, body: dict[str, Any], *, latency_budget_ms: int | None = None) -> Iterator[Piece | Position]:
        """Ask and follow: the place in the queue while it waits, then the answer piece by piece.

        To leave the iteration early takes the request back.
        """
        call = calls.chat({**body, "stream": True}, latency_budget_ms)
        events = calls.Events()
        try:
            with self._http.stream(call.method, call.path, json=call.body) as answer:
                if answer.is_error:
                    answer.read()
                    raise calls.error_of(answer)
                for line in answer.iter_lines():
                    yield from events.of(line)
        except httpx2.TransportError as fault:
            raise calls.unreachable(fault, call) from fault
        events.check()

    def _do(self, call: Call[Told]) -> Told:
        tries = 0
        while True:
            tries += 1
            try:
                return call.read(self._once(call))
            except ApiError as error:
                if (pause_s := calls.pause_s(error, tries, call)) is None:
                    raise
                time.sleep(pause_s)

    def _once(self, call: Call[Any]) -> Any:
        try:
            answer = self._http.request(
                call.method,
                call.path,
                json=call.body,
                params=dict(call.query),
                headers=dict(call.headers),
                timeout=self._timeout_s + call.held_s,
            )
        except httpx2.TransportError as fault:
            raise calls.unreachable(fault, call) from fault
        if answer.is_error:
            raise calls.error_of(answer)
        return answer.json()

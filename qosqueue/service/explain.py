"""Why did a request wait, and what was decided about it? The record, and what the queue says now, told in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qosqueue.errors import NotFound
from qosqueue.policy.lifecycle import TERMINAL
from qosqueue.policy.reference.message import Stand, State
from qosqueue.service import story
from qosqueue.service.story import Reader, Sentence, length
from qosqueue.service.waiting import Waiting, WaitingView
from qosqueue.store.decisions import Decision, DecisionKind, Decisions
from qosqueue.store.job_record import JobRecord
from qosqueue.store.records import Job

NAMED_AT_MOST = 5
ANOTHER = "another tenant"
REACHED = {
    "tenant": "its tenant's cap",
    "tier": "its tier's bulkhead",
    "lane": "its lane's limit",
    "model": "its model's limit",
    "breaker": "what its model's breaker lets through",
    "place": "its lane's limit on this model",
}


@dataclass(frozen=True)
class Explanation:
    """What became of a request so far: its status, the sentences in order of time, and the facts behind them.

    `began_before` says whose requests its last attempt waited for and how many they were, the most first.
    """

    id: str
    status: str
    sentences: list[Sentence]
    decisions: list[Decision]
    began_before: list[tuple[str, int]]

    @property
    def text(self) -> str:
        """All of it in one paragraph."""
        return " ".join(sentence.text for sentence in self.sentences)


class Explanations:
    """Raises NotFound, StoreUnavailable and BrokerUnavailable."""

    def __init__(self, record: JobRecord, decisions: Decisions, waiting: WaitingView) -> None:
        self._record = record
        self._decisions = decisions
        self._waiting = waiting

    def of_tenant(self, tenant_id: str, request_id: str) -> Explanation:
        """A tenant's own request; raises NotFound, the same for another tenant's as for none. Nobody else is named."""
        job, now = self._record.find(request_id, tenant_id), None
        if job is None or job.status not in TERMINAL:
            now = self._waiting.of(request_id)
        if job is None and (now is None or now.tenant != tenant_id):
            raise NotFound(f"No job {request_id!r}.")
        return self._explain(request_id, job, now, Reader(None))

    def of_any(self, request_id: str, names: Mapping[str, str]) -> Explanation:
        """Anybody's request, or a host project's task that the queue knows, for operators; `names` are those of
        tenants."""
        job, now = self._record.find(request_id), self._waiting.of(request_id)
        if job is None and now is None:
            raise NotFound(f"no job {request_id!r}, and the queue knows no task of that name")
        return self._explain(request_id, job, now, Reader(names))

    def _explain(self, request_id: str, job: Job | None, now: Waiting | None, reader: Reader) -> Explanation:
        # One that was written down late stands where it belongs.
        decisions = [] if job is None else sorted(self._decisions.of(request_id), key=lambda each: each.at_ms)
        sentences = list(story.told(decisions, reader))
        before: list[tuple[str, int]] = []
        if job is not None and (window := _last_wait(decisions)):
            before = self._named(job, *window, reader)
            if before and reader.names is not None:
                shown = ", ".join(f"{name} {count}" for name, count in before)
                sentences.append(Sentence(window[1], f"Whose requests began while it waited: {shown}."))
        if now is not None and (job is None or job.status not in TERMINAL):
            sentences += [Sentence(None, text) for text in _now(now, reader)]
        if job is not None and (end := story.ended(job)):
            sentences.append(end)
        status = job.status.value if job is not None else _status(now)
        return Explanation(request_id, status, sentences, [_shown(each, reader) for each in decisions], before)

    def _named(self, job: Job, since_ms: int, until_ms: int, reader: Reader) -> list[tuple[str, int]]:
        counts = self._record.began_between(job.model, since_ms, until_ms, besides=job.id)
        if reader.names is not None:
            names = [(reader.names.get(tenant, tenant), count) for tenant, count in counts]
            return names[:NAMED_AT_MOST]
        others = sum(count for tenant, count in counts if tenant != job.tenant_id)
        own = sum(count for tenant, count in counts if tenant == job.tenant_id)
        return [(whose, count) for whose, count in (("you", own), (ANOTHER, others)) if count]


def _last_wait(decisions: list[Decision]) -> tuple[int, int] | None:
    """From when to when its last attempt waited (ms since the epoch)."""
    for decision in reversed(decisions):
        waited_ms = decision.facts.get("met", {}).get("waited_ms")
        if decision.kind is DecisionKind.DISPATCHED and waited_ms:
            return decision.at_ms - waited_ms, decision.at_ms
    return None


def _shown(decision: Decision, reader: Reader) -> Decision:
    """The decision as this reader may see it: which machine served it is no tenant's business."""
    if reader.names is not None:
        return decision
    return Decision(decision.kind, decision.at_ms, {k: v for k, v in decision.facts.items() if k != "worker"})


def _status(now: Waiting | None) -> str:
    """Of a request that is not on record yet."""
    if now is None:
        return "unknown"
    return {State.QUEUED: "queued", State.LEASED: "running", State.DEAD: "failed"}[now.state]


def _now(now: Waiting, reader: Reader) -> Iterator[str]:
    """Where it is and what binds it at this moment."""
    if now.state is State.DEAD:
        yield f"It is kept as a dead letter after {now.attempts} attempts; an operator may replay it."
    elif now.state is State.LEASED:
        holder = reader.replica(now.holder or "a worker")
        yield f"Attempt {now.attempts} has been running {holder} for {length(max(0, now.now_ms - now.started_ms))}."
        if now.cancelled:
            yield "It was told to stop."
    elif now.stand is Stand.LATER:
        yield f"It waits for its ETA, in {length(max(0, now.eta_ms - now.now_ms))}."
    elif now.stand is Stand.EXPIRED:
        yield "Its time to live is over: the next sweep ends it."
    else:
        yield _place(now, reader)
        yield _binding(now)


def _place(now: Waiting, reader: Reader) -> str:
    total = sum(now.ahead.values())
    waited = f"It has waited {length(max(0, now.now_ms - now.arrival_ms))}"
    if not total:
        return f"{waited} and is the next of its model."
    kinds = ", ".join(f"{count} {kind}" for kind, count in now.ahead.items())
    least = "" if now.counted_all else "at least "
    own = f", {reader.own(now.own_ahead)}" if now.own_ahead else ""
    return f"{waited}; {least}{total} of its model stand before it ({kinds}){own}."


def _binding(now: Waiting) -> str:
    """The one thing that keeps it from beginning."""
    if now.reached:
        told = " and ".join(f"{REACHED[each.kind]} ({each.most} at once)" for each in now.reached)
        return f"What binds it now: {told} is reached."
    if not now.replicas:
        return f"What binds it now: no worker serves {now.model or 'its lane'}."
    if now.running >= now.slots:
        return f"What binds it now: all {now.slots} slots of {now.model} are taken."
    if now.stand is Stand.BATCH:
        return "What binds it now: batch takes only slots that nobody online wants."
    return "Nothing binds it: the next pick takes it, or one that stands before it."


def facts_of(explanation: Explanation) -> dict[str, Any]:
    """The explanation as JSON shows it; instants in ms since the epoch."""
    return {
        "id": explanation.id,
        "status": explanation.status,
        "text": explanation.text,
        "sentences": [{"at_ms": each.at_ms, "text": each.text} for each in explanation.sentences],
        "decisions": [
            {"kind": each.kind.value, "at_ms": each.at_ms, "facts": each.facts} for each in explanation.decisions
        ],
        "began_before": [{"tenant": tenant, "requests": count} for tenant, count in explanation.began_before],
    }

"""How is what was decided about a request told in plain sentences?

Pure: decisions and figures in, sentences out. `Reader` says who reads: a tenant hears of itself and of "other tenants",
an operator hears names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Stand
from qosqueue.store.decisions import Decision, DecisionKind
from qosqueue.store.records import Job

BEGAN = {
    "began_vip": "of vip tenants",
    "began_standard": "of standard tenants",
    "began_basic": "of basic tenants",
    "began_relegated": "that were late and owed service",
    "began_batch": "of batch",
}
HELD = {
    "held_tenant_ms": "its tenant ran as many at once as its cap allows",
    "held_tier_ms": "its tier ran as many at once as its bulkhead allows",
    "held_lane_ms": "its lane was paused or at its limit",
    "held_model_ms": "its model was at its limit",
    "held_breaker_ms": "its model's breaker was open",
    "held_place_ms": "its lane was at its limit on this model",
}
# A wait that nothing of this explains, and that is longer than a pick takes.
UNEXPLAINED_MS = 50


@dataclass(frozen=True)
class Sentence:
    """What happened, and when (ms since the epoch; None: it holds now)."""

    at_ms: int | None
    text: str


@dataclass(frozen=True)
class Reader:
    """Who reads. `names` is None for a tenant: then only its own are told apart."""

    names: Mapping[str, str] | None

    def own(self, count: int) -> str:
        """Those of the request's own tenant among others."""
        whose = "your own" if self.names is None else "its own tenant's"
        return f"{count} of them {'was' if count == 1 else 'were'} {whose}"

    def replica(self, worker: str) -> str:
        """Where an attempt runs. Machines are no tenant's business."""
        return "on a replica" if self.names is None else f"on {worker}"


def length(ms: int) -> str:
    """A length of time as people say it."""
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 120_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms / 60_000:.0f} min" if ms < 7_200_000 else f"{ms / 3_600_000:.1f} h"


def told(decisions: Sequence[Decision], reader: Reader) -> Iterator[Sentence]:
    """One sentence or more for each decision."""
    budget_ms = 0
    for decision in decisions:
        facts = decision.facts
        match decision.kind:
            case DecisionKind.ADMITTED:
                budget_ms = facts["budget_ms"]
                yield from (Sentence(decision.at_ms, text) for text in _admitted(facts))
            case DecisionKind.DISPATCHED:
                yield from (Sentence(decision.at_ms, text) for text in _dispatched(facts, budget_ms, reader))
            case DecisionKind.LEASE_LOST:
                lost = f"The worker of attempt {facts['fence']} was lost; the request went back to its old place."
                yield Sentence(decision.at_ms, lost)
            case DecisionKind.QUEUED_AGAIN:
                yield Sentence(decision.at_ms, f"Queued from the record, since {facts['why']}.")
            case DecisionKind.RERANKED:
                budget_ms = facts.get("budget_ms", budget_ms)
                given = ", ".join(f"{name} {value}" for name, value in facts.items())
                yield Sentence(decision.at_ms, f"An operator moved it: {given}.")
            case DecisionKind.FELL_BACK:
                yield Sentence(decision.at_ms, f"Fell back from {facts['from']} to {facts['to']}: {facts['why']}.")
            case DecisionKind.DEGRADED:
                yield Sentence(decision.at_ms, f"Degraded to {facts['to']}: {facts['why']}.")
            case DecisionKind.RETRIED:
                yield Sentence(decision.at_ms, f"Tried again elsewhere: {facts['why']}.")


def ended(job: Job) -> Sentence | None:
    """How it ended, if it did."""
    if job.finished_ms is None:
        return None
    after = length(max(0, job.finished_ms - job.created_ms))
    match job.status:
        case JobStatus.SUCCEEDED:
            text = f"Succeeded {after} after it came"
            if job.first_token_ms is not None:
                text += f", its first token after {length(max(0, job.first_token_ms - job.created_ms))}"
            text += f": {job.prompt_tokens} prompt and {job.completion_tokens} completion tokens"
            text += f", {length(job.gpu_ms)} of a slot" if job.gpu_ms is not None else ""
        case JobStatus.FAILED | JobStatus.REJECTED | JobStatus.EXPIRED:
            why = str((job.error or {}).get("message") or "no reason is on record").rstrip(".")
            text = f"{job.status.value.capitalize()} {after} after it came: {why}"
        case _:
            # What its tenant took back has no reason on record.
            why = f": {str(job.error['message']).rstrip('.')}" if job.error else ""
            used = f"; {length(job.gpu_ms)} of a slot were used until then" if job.gpu_ms else ""
            text = f"{job.status.value.capitalize()} {after} after it came{used}{why}"
    return Sentence(job.finished_ms, f"{text}.")


def _admitted(facts: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Admitted to {facts['lane']} with priority {facts['priority']} as {facts['task_type']} of latency class "
        f"{facts['latency_class']}: it should begin within {length(facts['budget_ms'])}, is wanted for "
        f"{length(facts['ttl_ms'])}, and was predicted to take {length(facts['cost_ms'])} of a slot."
    )
    if judged := facts.get("judged"):
        limits = ", ".join(f"{one['used']} of {one['most']} {one['counted']} ({one['whose']})" for one in judged)
        yield f"With it {limits} were used."


def _dispatched(facts: Mapping[str, Any], budget_ms: int, reader: Reader) -> Iterator[str]:
    met = facts["met"]
    began = f"Attempt {facts['fence']} began {reader.replica(facts['worker'])}"
    if not met:
        yield f"{began}."
        return
    yield f"{_waited(met, reader)} {began}{_against(met, budget_ms)}."
    if place := _stood(met):
        yield place


def _waited(met: Mapping[str, Any], reader: Reader) -> str:
    """How long, behind what, and what held it back."""
    waited_ms = met.get("waited_ms", 0)
    counts = {words: met[name] for name, words in BEGAN.items() if met.get(name)}
    total = sum(counts.values())
    reasons = []
    if total:
        ahead = f"{total} {'request' if total == 1 else 'requests'} of its model began before it"
        ahead += f" ({', '.join(f'{count} {words}' for words, count in counts.items())})"
        reasons.append(ahead + (f", {reader.own(met['began_own'])}" if met.get("began_own") else ""))
    reasons += [f"{words} for {length(met[name])} of it" for name, words in HELD.items() if met.get(name)]
    if not reasons and waited_ms >= UNEXPLAINED_MS:
        reasons.append("no slot was free for it: what ran had begun before it came, or no worker served its lane")
    waiting = met.get("place_waiting", 0)
    came = f" When it came, {waiting} waited in its lane, itself included." if waiting > 1 else ""
    return f"Waited {length(waited_ms)}{': ' if reasons else ''}{'; '.join(reasons)}.{came}"


def _against(met: Mapping[str, Any], budget_ms: int) -> str:
    if not budget_ms:
        return ""
    late_ms = met.get("waited_ms", 0) - budget_ms
    return f", {length(late_ms)} later than asked" if late_ms > 0 else f", within its {length(budget_ms)}"


def _stood(met: Mapping[str, Any]) -> str:
    """What moved its place in the order."""
    why = []
    match met["stand"]:
        case Stand.RELEGATED:
            why.append("it could no longer begin in time, so it stood behind all that could")
        case Stand.BATCH:
            why.append("as batch it took a slot that nobody online wanted")
    if met.get("penalty_ms"):
        claimed = "what its organisation had queued claimed more than its allowance"
        why.append(f"{claimed}, so it stood {length(met['penalty_ms'])} later")
    if met.get("in_profile"):
        why.append("it fit its contracted share, so neither its size nor a claim moved it back")
    if met.get("boosted"):
        why.append("a boost was in force")
    told_why = "; ".join(why)
    return f"{told_why[0].upper()}{told_why[1:]}." if why else ""

"""How does what a client asks for twice happen once? A key that it gives is held by the first, who leaves the answer.

The row of the key is the lock, so it holds over all processes. A process that dies in the middle leaves its key held
until a time; whoever takes it over makes the thing under the same id, and finds it if it was made already.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace

import structlog

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.refusal import Refusal
from qosqueue.store.clock import now_ms
from qosqueue.store.idempotency_record import IdempotencyRecord, KeyRecord
from qosqueue.store.ids import new_id

KEEP_MS = 24 * 3_600_000
# A process that has not answered for so long is taken to be dead: in a submit, and where a client waits for a model.
SUBMITS_WITHIN_MS = 10_000
ANSWERS_WITHIN_MS = 600_000
# Somebody else may take or leave the key between two looks at it; not for ever.
LOOKS = 5

IN_PROGRESS = Refusal(
    409,
    "idempotency_in_progress",
    "A request with this Idempotency-Key is being answered: ask again for its answer.",
    retry_after_s=1,
)
REUSED = Refusal(
    422,
    "idempotency_key_reused",
    "This Idempotency-Key was used for another request: give each request its own.",
    param="Idempotency-Key",
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Claim:
    """The right to answer for a key. What is made has the id `made_id` (a job's)."""

    id: str
    made_id: str


@dataclass(frozen=True)
class KeptAnswer:
    """What the first one was answered: the HTTP status, headers and body. `content` tells what it had sent, where that
    was not known when it took the key: a file's digest."""

    status: int
    headers: list[list[str]]
    body: str
    content: str | None = None


class Idempotency:
    """The keys of all tenants."""

    def __init__(self, record: IdempotencyRecord) -> None:
        self._record = record

    def claim(self, tenant_id: str, key: str, fingerprint: str, within_ms: int) -> Claim | KeptAnswer | Refusal:
        """Take the key for a request that is answered `within_ms`, or hear what became of it.

        `fingerprint` is the same for the same request alone. Raises StoreUnavailable.
        """
        for _ in range(LOOKS):
            at_ms = now_ms()
            ours = KeyRecord(
                tenant_id=tenant_id,
                key=key,
                claim=secrets.token_hex(16),
                fingerprint=fingerprint,
                made_id=new_id("job"),
                running_until_ms=at_ms + within_ms,
                expires_ms=at_ms + KEEP_MS,
                answer=None,
            )
            # Looked at before it is written: who asks again and again takes no lock from those who write.
            held = self._record.find(tenant_id, key)
            if held is None:
                if self._record.add(ours, at_ms):
                    return Claim(ours.claim, ours.made_id)
                continue
            if held.expires_ms > at_ms:
                if held.fingerprint != fingerprint:
                    return REUSED
                if held.answer is not None:
                    return KeptAnswer(**held.answer)
                if held.running_until_ms is None or held.running_until_ms > at_ms:
                    return IN_PROGRESS
                ours = replace(ours, made_id=held.made_id)
            if self._record.take_over(held.claim, ours):
                return Claim(ours.claim, ours.made_id)
        return IN_PROGRESS

    def keep(self, claim: Claim, answer: KeptAnswer) -> None:
        """The same request gets this answer for the next 24 h. Never raises: what was made stays made."""
        try:
            self._record.answered(claim.id, asdict(answer), now_ms() + KEEP_MS)
        except StoreUnavailable as error:
            log.warning("an answer is not kept under its key", made=claim.made_id, error=str(error))

    def release(self, claim: Claim) -> None:
        """Nothing was made: the same key may try again. Never raises."""
        try:
            self._record.forget(claim.id)
        except StoreUnavailable as error:
            log.warning("a key stays held until its time is over", made=claim.made_id, error=str(error))

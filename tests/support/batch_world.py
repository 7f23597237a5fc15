"""How does a test hand in a batch, let the feed run, and serve its lines?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import update

from qosqueue.policy.reference.message import Delivery
from qosqueue.service.reconciler import Reconciler
from qosqueue.service.spent_today import SpentToday
from qosqueue.store.batch_record import Batch
from qosqueue.store.bulk_tables import BatchRow
from qosqueue.store.clock import now_ms
from qosqueue.store.job_record import JobRecord
from tests.support.bulk import CHAT_URL, jsonl, line
from tests.support.road import Road

PLACES = [("vip.light", "sim")]
RUN_S = 60.0
COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "first_token_ms": 1}


def begin(road: Road, lines: Iterable[dict[str, Any] | bytes], **fields: Any) -> Batch:
    """A batch of these lines, handed in."""
    with road.services.files.new() as file:
        file.write(jsonl(lines))
        kept = file.keep(road.tenant.id, "batch", "in.jsonl")
    asked = {"endpoint": CHAT_URL, "completion_window": "24h", "input_file_id": kept.id, **fields}
    batch = road.services.batches.create(road.tenant.id, **asked)
    assert isinstance(batch, Batch), batch
    return batch


def chats(count: int) -> list[dict[str, Any]]:
    return [line(f"c{number}", model="sim", text=f"say {number}") for number in range(count)]


def feed(road: Road, batch: Batch) -> Batch:
    """Let the feed run once; the batch after it."""
    road.services.batch_feed.run(RUN_S)
    return road.services.batches.get(road.tenant.id, batch.id)


def reconcile(road: Road) -> None:
    """Queue what is on record and was not sent."""
    services = road.services
    Reconciler(
        services.scripts,
        JobRecord(services.store),
        services.jobs._publisher,
        services.admission,
        SpentToday(services.scripts, services.usage),
        lease_ms=0,
        grace_ms=-1,
    ).run()


def serve(road: Road, fail: frozenset[str] = frozenset()) -> list[str]:
    """Be a worker that serves all that is queued; the ids of the jobs that it has served."""
    served = []
    services = road.services
    while isinstance(found := services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES), Delivery):
        body = services.attempts.begin(found.task, found.fence, "w")
        if body is not None:
            said = body["messages"][0]["content"]
            if said in fail:
                error = {"status": 500, "code": "engine_failed", "message": "The model failed.", "param": None}
                assert services.attempts.fail(found.task, found.fence, error)
            else:
                assert services.attempts.finish(found.task, found.fence, {"said": said}, **COUNTS)
            served.append(found.task)
        services.scripts.settle(tag=found.tag, fence=found.fence, outcome="done")
    return served


def lines_of(road: Road, file_id: str | None) -> dict[str | None, dict[str, Any]]:
    """The lines of an output by custom_id; no line stands there twice."""
    if file_id is None:
        return {}
    text = road.services.files.path(file_id).read_text()
    rows = [json.loads(each) for each in text.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def expire(road: Road, batch: Batch) -> None:
    """The window of a batch is over."""
    with road.services.store.session() as session:
        session.execute(update(BatchRow).where(BatchRow.id == batch.id).values(expires_ms=now_ms() - 1))

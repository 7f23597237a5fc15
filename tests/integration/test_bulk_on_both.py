"""Does a batch go from its file to its webhook on either database?"""

from __future__ import annotations

import json
from typing import Any

from qosqueue.policy.batch import BatchStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.service.webhook_events import EVENT_TYPES
from qosqueue.store.batch_record import Batch
from qosqueue.store.clock import now_ms
from tests.support.bulk import CHAT_URL, jsonl, line
from tests.support.receiver import receiving
from tests.support.road import Road

PLACES = [("vip.light", "sim")]


def test_a_batch_and_a_job_from_file_to_webhook(make_settings: Any, empty_url: str) -> None:
    road = Road(make_settings(database_url=empty_url, webhook_private_networks=True))
    try:
        road.model()
        with receiving() as receiver:
            run(road, receiver.url)
            told = [json.loads(text) for _, text in receiver.received]
        assert sorted(event["type"] for event in told) == ["batch.completed", "response.cancelled"]
    finally:
        road.close()


def run(road: Road, url: str) -> None:
    services, tenant = road.services, road.tenant.id
    services.webhooks.add(tenant, name="mine", url=url, event_types=list(EVENT_TYPES), actor="test")
    assert services.webhooks.hears_of_jobs(tenant)
    with services.files.new() as file:
        file.write(jsonl([line("a", model="sim"), line("a", model="sim"), b"{", line("b", model="sim")]))
        kept = file.keep(tenant, "batch", "in.jsonl")
    batch = services.batches.create(tenant, endpoint=CHAT_URL, completion_window="1h", input_file_id=kept.id)
    assert isinstance(batch, Batch), batch
    services.batch_feed.run(60)
    while isinstance(found := services.scripts.dispatch(lease_ms=60_000, holder="t", places=PLACES), Delivery):
        assert services.attempts.begin(found.task, found.fence, "w") is not None
        services.attempts.finish(found.task, found.fence, {}, prompt_tokens=1, completion_tokens=1, first_token_ms=1)
        services.scripts.settle(tag=found.tag, fence=found.fence, outcome="done")
    job = road.submit()
    services.jobs.cancel(tenant, job.id)
    services.batch_feed.run(60)
    done = services.batches.get(tenant, batch.id)
    assert (done.status, done.total, done.completed, done.failed) == (BatchStatus.COMPLETED, 4, 2, 2)
    assert [file.purpose for file in services.files.list(tenant, 5)].count("batch_output") == 2
    assert sum(file.bytes for file in services.files.list(tenant, 9)) > kept.bytes
    assert services.webhook_events.collect(10) == 1
    due = services.webhook_sending.due(10)
    assert {owner for _, owner in due} == {tenant}
    for delivery, _ in due:
        services.webhook_sending.send(delivery)
    assert services.webhook_sending.forget(10) == 0
    assert services.batch_feed.forget_lines(now_ms() + 1_000, 100) == 4
    assert services.files.delete(tenant, kept.id).id == kept.id
    assert services.files.sweep() == 0

"""Do batches and webhooks come through with real processes, and when those are killed?"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from qosqueue.policy.batch import BatchStatus
from qosqueue.store.batch_record import Batch
from qosqueue.store.bulk_tables import BatchRow, WebhookDeliveryRow
from qosqueue.store.tables import JobRow
from tests.support.bulk import CHAT_URL, jsonl, line
from tests.support.eventually import eventually
from tests.support.receiver import receiving
from tests.support.road import Road

LINES = 60
WITHIN_S = 100.0


@pytest.fixture
def hooked(make_settings: Any) -> Iterator[Road]:
    """A road with small windows, whose webhooks may go to this machine."""
    road = Road(
        make_settings(lease_ms=2_000, sweep_ms=200, batch_window=8, max_deliveries=10, webhook_private_networks=True)
    )
    try:
        options = {"step_ms": 5, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 8}
        road.model(options=options)
        yield road
    finally:
        road.close()


def begin(road: Road) -> Batch:
    with road.services.files.new() as file:
        file.write(jsonl([*(line(f"c{number}", model="sim", text=f"{number}") for number in range(LINES)), b"{"]))
        kept = file.keep(road.tenant.id, "batch", "in.jsonl")
    batch = road.services.batches.create(
        road.tenant.id, endpoint=CHAT_URL, completion_window="1h", input_file_id=kept.id
    )
    assert isinstance(batch, Batch), batch
    return batch


def delivery_state(road: Road) -> str | None:
    with road.services.store.session() as session:
        return session.scalar(select(WebhookDeliveryRow.state))


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_killed_feeders_and_workers_lose_and_double_no_line(hooked: Road) -> None:
    services = hooked.services
    with receiving() as receiver:
        services.webhooks.add(
            hooked.tenant.id, name="mine", url=receiver.url, event_types=["batch.completed"], actor="test"
        )
        batch = begin(hooked)

        def now() -> Batch:
            return services.batches.get(hooked.tenant.id, batch.id)

        worker, feeder = hooked.worker("w0"), hooked.bulk()
        hooked.watchdog()
        for fraction in (1, 2, 3):
            eventually(lambda goal=fraction * LINES // 5: now().completed >= goal, WITHIN_S)
            feeder.send_signal(signal.SIGKILL)
            worker.send_signal(signal.SIGKILL)
            feeder.wait()
            worker.wait()
            assert now().status is BatchStatus.IN_PROGRESS
            with services.store.session() as session:  # a hold ends by itself in 10 s: the test need not wait for it
                session.execute(update(BatchRow).values(held_until_ms=0))
            worker, feeder = hooked.worker(f"w{fraction}"), hooked.bulk()
        done = eventually(lambda: (found := now()).status is BatchStatus.COMPLETED and found, WITHIN_S)
        assert (done.total, done.completed, done.failed) == (LINES + 1, LINES, 1)
        rows = [json.loads(each) for each in services.files.path(done.output_file_id or "").read_text().splitlines()]
        assert [row["custom_id"] for row in rows] == [f"c{number}" for number in range(LINES)]
        (bad,) = services.files.path(done.error_file_id or "").read_text().splitlines()
        assert json.loads(bad)["error"]["line"] == LINES + 1
        with services.store.session() as session:
            assert session.scalar(select(func.count()).select_from(JobRow)) == LINES, "one job a line"
        eventually(lambda: receiver.received, WITHIN_S)
        assert {json.loads(text)["data"]["id"] for _, text in receiver.received} == {batch.id}
        eventually(lambda: delivery_state(hooked) == "delivered", WITHIN_S)

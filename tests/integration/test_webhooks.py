"""Is every event brought to those who asked for it: signed, at least once, and never where it must not go?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook

from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.refusal import Refusal
from qosqueue.policy.terms import Tier
from qosqueue.service import webhook_sending
from qosqueue.service.answers import CHAT, RESPONSES, public_id
from qosqueue.service.audit import Audit
from qosqueue.service.outbound import Answered, Unreached
from qosqueue.service.webhook_events import EVENT_TYPES
from qosqueue.service.webhook_sending import DELIVERED, GIVEN_UP, RETRIES_MS, WebhookSending
from qosqueue.service.webhooks import WebhookEndpoint
from qosqueue.store.bulk_tables import JobWebhookRow, WebhookDeliveryRow
from qosqueue.store.clock import now_ms
from tests.support.receiver import Receiver, receiving
from tests.support.road import Road


@pytest.fixture
def hooked(make_settings: Any) -> Iterator[Road]:
    """A road on which webhooks may go to this machine."""
    road = Road(make_settings(webhook_private_networks=True))
    try:
        road.model()
        yield road
    finally:
        road.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def add(road: Road, url: str, *event_types: str, tenant_id: str | None = None) -> tuple[WebhookEndpoint, str]:
    asked = list(event_types or EVENT_TYPES)
    return road.services.webhooks.add(
        tenant_id or road.tenant.id, name="mine", url=url, event_types=asked, actor="test"
    )


def emit(road: Road, event_type: str = "batch.completed", object_id: str = "batch_1") -> None:
    with road.services.store.session() as session:
        road.services.webhook_events.emit(session, road.tenant.id, event_type, object_id)


def send_due(road: Road, sending: WebhookSending | None = None) -> int:
    """Send all that is due; how many there were."""
    sending = sending or road.services.webhook_sending
    due = sending.due(100)
    for delivery, _ in due:
        sending.send(delivery)
    return len(due)


def deliveries(road: Road) -> list[WebhookDeliveryRow]:
    with road.services.store.session() as session:
        return list(session.scalars(select(WebhookDeliveryRow).order_by(WebhookDeliveryRow.created_ms)))


def make_due(road: Road) -> None:
    """The time of the next try has come."""
    with road.services.store.session() as session:
        session.execute(update(WebhookDeliveryRow).values(next_ms=now_ms()))


def test_an_event_arrives_signed_and_both_clients_accept_it(hooked: Road, receiver: Receiver) -> None:
    _, secret = add(hooked, receiver.url)
    emit(hooked, "batch.completed", "batch_7")
    assert send_due(hooked) == 1
    ((headers, text),) = receiver.received
    assert receiver.paths == ["/hook?x=1"]
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    with openai.OpenAI(api_key="unused", webhook_secret=secret) as client:
        event = client.webhooks.unwrap(text, headers)
        assert event.type == "batch.completed"
        assert (event.data.id, event.object, event.id) == ("batch_7", "event", headers["webhook-id"])
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(text.replace("batch_7", "batch_8"), headers)
    assert Webhook(secret).verify(text, headers)["data"] == {"id": "batch_7"}
    (row,) = deliveries(hooked)
    assert (row.state, row.attempts, row.answer_status) == (DELIVERED, 1, 204)
    assert send_due(hooked) == 0


def test_only_those_are_told_who_asked(hooked: Road, receiver: Receiver) -> None:
    other = hooked.services.accounts.create_tenant("other", Tier.BASIC, actor="test")
    add(hooked, receiver.url, "batch.failed")
    add(hooked, receiver.url, tenant_id=other.id)
    emit(hooked, "batch.completed")
    assert deliveries(hooked) == []
    emit(hooked, "batch.failed")
    assert len(deliveries(hooked)) == 1


def test_an_event_that_did_not_happen_is_not_told(hooked: Road, receiver: Receiver) -> None:
    add(hooked, receiver.url)

    def undone() -> None:
        with hooked.services.store.session() as session:
            hooked.services.webhook_events.emit(session, hooked.tenant.id, "batch.failed", "b")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    assert deliveries(hooked) == []


def test_what_is_not_taken_is_sent_again_by_the_schedule(hooked: Road, receiver: Receiver) -> None:
    add(hooked, receiver.url)
    receiver.answers = [(500, {}, b"no " * 1_000)] * (len(RETRIES_MS) + 1)
    emit(hooked)
    for attempt, pause_ms in enumerate(RETRIES_MS, 1):
        before = now_ms()
        assert send_due(hooked) == 1
        (row,) = deliveries(hooked)
        assert (row.state, row.attempts, row.answer_status) == ("pending", attempt, 500)
        assert before + pause_ms <= row.next_ms <= now_ms() + pause_ms
        assert len(row.answer or "") <= 500, "a stranger's answer takes no room"
        make_due(hooked)
    assert send_due(hooked) == 1
    (row,) = deliveries(hooked)
    assert (row.state, row.attempts) == (GIVEN_UP, len(RETRIES_MS) + 1)
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {row.id}, "one id for all tries"
    make_due(hooked)
    assert send_due(hooked) == 0


def test_a_redirect_is_not_followed(hooked: Road, receiver: Receiver) -> None:
    add(hooked, receiver.url)
    with receiving() as elsewhere:
        receiver.answers = [(302, {"Location": elsewhere.url}, b""), (307, {"Location": elsewhere.url}, b"")]
        emit(hooked)
        send_due(hooked)
        make_due(hooked)
        send_due(hooked)
        assert elsewhere.received == []
    (row,) = deliveries(hooked)
    assert (row.state, row.answer_status) == ("pending", 307)


def test_gone_disables_until_its_tenant_changes_it(hooked: Road, receiver: Receiver) -> None:
    endpoint, _ = add(hooked, receiver.url)
    receiver.answers = [(410, {}, b"")]
    for _ in range(2):
        emit(hooked)
    send_due(hooked)
    assert [row.state for row in deliveries(hooked)] == [GIVEN_UP, GIVEN_UP]
    assert len(receiver.received) == 1
    after = hooked.services.webhooks.get(hooked.tenant.id, endpoint.id)
    assert (after.enabled, after.disabled_reason) == (False, "it answered 410 Gone")
    emit(hooked)
    assert len(deliveries(hooked)) == 2
    hooked.services.webhooks.update(hooked.tenant.id, endpoint.id, actor="test", name="again")
    emit(hooked)
    assert send_due(hooked) == 1
    assert len(receiver.received) == 2


def test_a_private_address_is_refused_when_it_is_called(road: Road, receiver: Receiver) -> None:
    """The URL was sound when it was given; the name leads elsewhere by now."""
    road.model()
    add(road, "https://hooks.example.com/x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", receiver.port))])
        emit(road)
        send_due(road)
    (row,) = deliveries(road)
    assert (row.state, row.answer_status) == ("pending", None)
    assert row.answer == "127.0.0.1 is not a public address"
    assert receiver.received == []


def test_a_sender_that_is_killed_sends_again_and_none_sends_beside_another(hooked: Road) -> None:
    add(hooked, "http://127.0.0.1:1/never")
    emit(hooked)
    tries = 0

    def dies(*_: Any, **__: Any) -> Answered | Unreached:
        nonlocal tries
        tries += 1
        assert sending.due(10) == [], "nobody else is given it"
        raise KeyboardInterrupt

    sending = WebhookSending(hooked.services.store, hooked.services.webhooks, private_allowed=True, post=dies)
    with pytest.raises(KeyboardInterrupt):
        send_due(hooked, sending)
    (row,) = deliveries(hooked)
    assert (row.state, row.attempts) == ("pending", 1)
    assert now_ms() < row.next_ms <= now_ms() + webhook_sending.CLAIM_MS
    make_due(hooked)
    good = WebhookSending(
        hooked.services.store, hooked.services.webhooks, private_allowed=True, post=lambda *_, **__: Answered(200, "")
    )
    assert send_due(hooked, good) == 1
    assert [each.state for each in deliveries(hooked)] == [DELIVERED]


@pytest.mark.parametrize("named", [True, False], ids=["named by the job", "subscribed"])
def test_the_end_of_a_job_is_told_once(hooked: Road, receiver: Receiver, named: bool) -> None:
    endpoint, _ = add(hooked, receiver.url, *(["batch.failed"] if named else EVENT_TYPES))
    ends = {}
    for event, end in (("completed", "finish"), ("failed", "fail"), ("cancelled", "cancel")):
        address = RESPONSES if end == "fail" else CHAT
        job = hooked.submit(webhook=endpoint.id if named else None, endpoint=address)
        # A response is told of under its own id.
        ends[public_id("resp_", job.id) if address == RESPONSES else job.id] = f"response.{event}"
        if end == "cancel":
            hooked.services.jobs.cancel(hooked.tenant.id, job.id)
            continue
        assert hooked.services.attempts.begin(job.id, 1, "w") is not None
        assert hooked.services.webhook_events.collect(10) == 0 or end == "fail"
        if end == "finish":
            hooked.services.attempts.finish(job.id, 1, {}, prompt_tokens=1, completion_tokens=1, first_token_ms=1)
        else:
            hooked.services.attempts.fail(job.id, 1, {"code": "engine_failed"})
    hooked.services.webhook_events.collect(10)
    assert hooked.services.webhook_events.collect(10) == 0
    send_due(hooked)
    told = {text["data"]["id"]: text["type"] for text in map(_json, receiver.received)}
    assert told == ends
    assert len(receiver.received) == 3


def _json(received: tuple[dict[str, str], str]) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(received[1]))


def test_nobody_is_told_of_a_job_that_nobody_asked_about(hooked: Road, receiver: Receiver) -> None:
    add(hooked, receiver.url, "batch.completed")
    job = hooked.submit()
    hooked.services.jobs.cancel(hooked.tenant.id, job.id)
    with hooked.services.store.session() as session:
        assert session.scalars(select(JobWebhookRow)).all() == []


def test_a_job_that_was_not_accepted_is_not_told(
    hooked: Road, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qosqueue.broker.publish import Publisher
    from qosqueue.errors import BrokerUnavailable

    def away(*_: Any, **__: Any) -> None:
        raise BrokerUnavailable("gone")

    add(hooked, receiver.url)
    monkeypatch.setattr(Publisher, "publish", away)
    with pytest.raises(BrokerUnavailable):
        hooked.services.jobs.submit(hooked.tenant, hooked.request())
    (job,) = hooked.services.jobs.list(None, 5)
    assert job.status is JobStatus.REJECTED
    assert hooked.services.webhook_events.collect(10) == 1
    assert deliveries(hooked) == []


def test_no_secret_is_in_the_record(hooked: Road, receiver: Receiver) -> None:
    endpoint, secret = add(hooked, receiver.url)
    _, other = hooked.services.webhooks.rotate(hooked.tenant.id, endpoint.id, actor="test")
    assert secret != other
    emit(hooked)
    send_due(hooked)
    ((headers, text),) = receiver.received
    assert Webhook(other).verify(text, headers)
    kept = b"".join(path.read_bytes() for path in hooked.settings.home.rglob("*") if path.is_file())
    for each in (secret, other):
        assert each.removeprefix("whsec_").encode() not in kept
    key = hooked.settings.home / "webhook_key"
    assert key.stat().st_mode & 0o777 == 0o600
    actions = [entry.action for entry in Audit(hooked.services.store).list(subject=endpoint.id)]
    assert actions == ["webhook.rotate", "webhook.add"]


def test_what_has_ended_is_forgotten_after_a_week(
    hooked: Road, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(hooked, receiver.url)
    emit(hooked)
    send_due(hooked)
    emit(hooked)
    sending = hooked.services.webhook_sending
    assert sending.forget(10) == 0
    monkeypatch.setattr(webhook_sending, "now_ms", lambda: now_ms() + 8 * 86_400_000)
    assert sending.forget(10) == 1
    assert [row.state for row in deliveries(hooked)] == ["pending"]


def test_removal_takes_along_what_was_to_be_sent(hooked: Road, receiver: Receiver) -> None:
    endpoint, _ = add(hooked, receiver.url)
    emit(hooked)
    due = hooked.services.webhook_sending.due(10)
    hooked.services.webhooks.remove(hooked.tenant.id, endpoint.id, actor="test")
    for delivery, _ in due:
        hooked.services.webhook_sending.send(delivery)
    assert (deliveries(hooked), receiver.received) == ([], [])


def test_a_refused_job_leaves_nothing_to_tell(hooked: Road, receiver: Receiver) -> None:
    endpoint, _ = add(hooked, receiver.url)
    refused = hooked.services.jobs.submit(hooked.tenant, hooked.request(model="never", webhook=endpoint.id))
    assert isinstance(refused, Refusal)
    assert hooked.services.webhook_events.collect(10) == 0

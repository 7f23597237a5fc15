"""Is the message that we make from a template the one that Celery's own `send_task` would have sent?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from qosqueue.broker import transport
from qosqueue.broker.celery_app import INFER_TASK, make_celery
from qosqueue.broker.publish import Publisher
from qosqueue.broker.submission import submitted
from qosqueue.broker.task_message import TaskMessages, request_of
from qosqueue.policy.profile import Facts, make_profile
from qosqueue.policy.quota import Verdict
from qosqueue.policy.terms import TaskType, Tier, WeightClass
from qosqueue.settings import Settings
from tests.support.messages import header

LANE, PRIORITY = "vip.light", 1
REQUEST = {"id": "job_1", "model": "m", "body": {"messages": [{"role": "user", "content": "é \u2028 😀 \\"}]}}
HEADER = header(budget_ms=250, max_attempts=2)
# What names a sender or one message: any value will do, of the same kind.
OWN = ("properties", "reply_to"), ("properties", "delivery_tag")


@pytest.fixture
def sent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What reaches the transport when Celery sends the request."""
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        transport.Channel,
        "_put",
        lambda self, queue, message, **_: found.append((queue, json.loads(json.dumps(message)))),
    )
    app = make_celery(settings)
    try:
        app.send_task(
            INFER_TASK,
            args=[REQUEST],
            argsrepr="('job_1',)",
            kwargsrepr="{}",
            task_id="job_1",
            queue=LANE,
            priority=PRIORITY,
            headers=HEADER,
        )
    finally:
        app.close()
    ((queue, message),) = found
    assert queue == LANE
    return message


@pytest.fixture
def made(settings: Settings) -> dict[str, Any]:
    app = make_celery(settings)
    message: dict[str, Any] = TaskMessages(app).make("job_1", LANE, PRIORITY, REQUEST, HEADER)
    return message


def test_it_is_the_message_that_celery_sends(sent: dict[str, Any], made: dict[str, Any]) -> None:
    for part, name in OWN:
        ours, theirs = made[part].pop(name), sent[part].pop(name)
        assert isinstance(ours, str)
        assert ours
        assert type(ours) is type(theirs)
    assert json.loads(made.pop("body")) == json.loads(sent.pop("body"))
    assert made == sent
    assert list(made["headers"]) == list(sent["headers"]), "also the order, for whoever reads it"


def test_each_has_a_tag_of_its_own(settings: Settings) -> None:
    messages = TaskMessages(make_celery(settings))
    tags = {messages.make("job_1", LANE, PRIORITY, REQUEST, HEADER)["properties"]["delivery_tag"] for _ in range(1_000)}
    assert len(tags) == 1_000


def test_the_request_is_read_back_from_either(sent: dict[str, Any], made: dict[str, Any]) -> None:
    assert request_of(sent) == request_of(made) == REQUEST


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("headers", {"task": "somebody.elses"}),
        ("headers", {"eta": "2030-01-01T00:00:00+00:00"}),
        ("headers", {"expires": "2030-01-01T00:00:00+00:00"}),
        ("properties", {"body_encoding": "base64"}),
        (None, {"content-type": "application/x-python-serialize"}),
        (None, {"body": json.dumps([[REQUEST, 1], {}, {}])}),
        (None, {"body": json.dumps([[REQUEST], {"x": 1}, {}])}),
        (None, {"body": json.dumps([[REQUEST], {}, {"callbacks": [{}]}])}),
    ],
)
def test_what_asks_more_of_celery_is_left_to_it(made: dict[str, Any], part: str | None, change: dict[str, Any]) -> None:
    (made if part is None else made[part]).update(change)
    assert request_of(made) is None


def test_the_order_is_told_what_the_message_says(settings: Settings) -> None:
    """The publisher writes both from one header, without reading the message again."""
    profile = make_profile(Facts(Tier.STANDARD, WeightClass.LIGHT, TaskType.BATCH, 40, 9, latency_budget_ms=1_234))
    offered: list[dict[str, Any]] = []

    class Recorder:
        def offer(self, request_id: str, quotas: object, fence: None, exchange: object, **message: Any) -> Verdict:
            offered.append(message)
            return Verdict(True, 0, ())

    publisher = Publisher(make_celery(settings), settings, Recorder())  # type: ignore[arg-type]
    publisher.offer("job_1", "m", "ten_1", "org", profile, REQUEST, [])
    (told,) = offered
    message = json.loads(told["payload"])
    assert told == submitted(
        profile.routing_key, message, dump=lambda _: told["payload"], max_attempts=profile.max_attempts + 1
    )
    assert (told["task"], told["model"], told["organisation"], told["batch"]) == ("job_1", "m", "org", True)

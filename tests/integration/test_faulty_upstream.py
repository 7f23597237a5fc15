"""What does a client see of an engine that fails, hangs or breaks off, and what is left of the request?

Over HTTP, with a real worker; engine and faults are simulated. There is no fallback: nothing else may answer.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from qosqueue.policy.breaker import State
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.terms import TaskType
from qosqueue_web.app import create_app
from tests.support.eventually import eventually
from tests.support.faulty import MakeFaulty, breaker, holds
from tests.support.openai_error import error_of
from tests.support.road import CHAT, Road

BODY = CHAT | {"model": "sim", "max_tokens": 8}
FAULT_ADDS = 3


def asker(road: Road) -> tuple[FlaskClient, dict[str, str]]:
    """A client of the road's HTTP application, and the headers of a tenant whose tokens are counted."""
    road.services.accounts.update_tenant("acme", actor="test", tokens_per_day=1_000, max_in_flight=1)
    key = road.services.accounts.create_key("acme", actor="test").key
    return create_app(road.services).test_client(), {"Authorization": f"Bearer {key}"}


def told(response: TestResponse) -> tuple[str, dict[str, Any]]:
    """The words of a stream, and the error that it ended with; a failure in time for the status is told by that."""
    if response.status_code != 200:
        return "", error_of(response, 500)
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert "[DONE]" not in lines, "a failure is no end of an answer"
    *chunks, last = map(json.loads, lines)
    error = last["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks), error


def nothing_is_left(road: Road, attempts: int) -> None:
    """Slot and quotas are free again, nothing is charged, and the breaker has heard of each attempt."""
    eventually(lambda: (road.in_flight(), holds(road)) == (0, 0), within_s=5)
    eventually(lambda: (found := breaker(road)) and found.score == FAULT_ADDS * attempts, within_s=5)
    found = breaker(road)
    assert found is not None
    assert found.state is State.CLOSED
    assert not road.services.redis.exists(f"{road.services.scripts.key}:used:day_tokens:t:{road.tenant.id}")
    assert road.services.usage.list() == []


@pytest.mark.parametrize("fault", ["fails", "hangs", "resets"])
def test_a_client_is_told_in_openais_shape_and_pays_nothing(faulty: MakeFaulty, fault: str) -> None:
    road = faulty(fault=fault, fallback=None)
    road.worker("w")
    client, headers = asker(road)

    whole = error_of(client.post("/v1/chat/completions", json=BODY, headers=headers), 500)
    assert (whole["code"], whole["type"]) == ("engine_failed", "server_error")
    nothing_is_left(road, attempts=2)

    said, error = told(client.post("/v1/chat/completions", json=BODY | {"stream": True}, headers=headers))
    assert (error["code"], error["message"]) == ("engine_failed", "The model failed.")
    # What its client has a part of is not begun a second time.
    assert len(said.split()) == (2 if fault == "resets" else 0)
    nothing_is_left(road, attempts=3 if fault == "resets" else 4)

    rows = eventually(lambda: len(found := road.services.jobs.list(None, 9)) == 2 and found, within_s=5)
    for row in rows:
        assert (row.task_type, row.status, row.gpu_ms) == (TaskType.ONLINE, JobStatus.FAILED, None)
        assert (row.error or {})["code"] == "engine_failed"


def test_a_fallback_answers_the_same_client_unless_it_has_a_part_already(faulty: MakeFaulty) -> None:
    road = faulty(fault="resets")
    road.worker("w")
    client, headers = asker(road)
    whole = client.post("/v1/chat/completions", json=BODY, headers=headers)
    assert (whole.status_code, whole.get_json()["model"]) == (200, "spare")
    assert whole.headers["x-qosqueue-detour"] == "fallback;from=sim"
    said, error = told(client.post("/v1/chat/completions", json=BODY | {"stream": True}, headers=headers))
    assert (len(said.split()), error["code"]) == (2, "engine_failed")
    assert [(each.model, each.requests) for each in eventually(road.services.usage.list, within_s=5)] == [("spare", 1)]

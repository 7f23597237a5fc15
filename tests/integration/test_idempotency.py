"""Is what a hundred clients ask for under one key made once, over processes that die, on both databases?"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qosqueue.policy.terms import Tier
from qosqueue.service import idempotency
from qosqueue.service.accounts import Accounts
from qosqueue.service.idempotency import (
    ANSWERS_WITHIN_MS,
    IN_PROGRESS,
    KEEP_MS,
    REUSED,
    Claim,
    Idempotency,
    KeptAnswer,
)
from qosqueue.store.idempotency_record import CLEARED_WITH_EACH, IdempotencyRecord
from qosqueue.store.session import Store
from tests.support.manual_clock import ManualClock
from tests.support.road import Road

ANSWER = KeptAnswer(202, [["Location", "/v1/jobs/1"]], '{"a": "é"}')
PROCESSES, EACH = 4, 25
SUBMIT = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from qosqueue_web.app import create_app
app, key = create_app(), sys.argv[1]
headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "one"}
body = {"body": {"model": "sim", "messages": [{"role": "user", "content": "Hi"}]}}
def submit(_):
    while True:
        answer = app.test_client().post("/v1/jobs", json=body, headers=headers)
        if answer.status_code != 409:
            return answer.status_code, answer.get_json()["id"] if answer.status_code == 202 else answer.text
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    print(json.dumps(list(pool.map(submit, range(int(sys.argv[2]))))))
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    made = ManualClock()
    monkeypatch.setattr(idempotency, "now_ms", made)
    return made


@pytest.fixture
def keys(record: Store) -> Idempotency:
    return Idempotency(IdempotencyRecord(record))


@pytest.fixture
def tenants(record: Store) -> list[str]:
    accounts = Accounts(record)
    return [accounts.create_tenant(name, Tier.BASIC, actor="test").id for name in ("a", "b")]


def claim(keys: Idempotency, tenant: str, key: str = "k", fingerprint: str = "f", within_ms: int = 1000) -> Any:
    return keys.claim(tenant, key, fingerprint, within_ms)


def test_one_holds_a_key_until_it_has_answered(keys: Idempotency, tenants: list[str]) -> None:
    a, b = tenants
    held = claim(keys, a, within_ms=ANSWERS_WITHIN_MS)
    assert isinstance(held, Claim)
    assert claim(keys, a) == IN_PROGRESS
    assert claim(keys, a, fingerprint="other") == REUSED
    assert isinstance(claim(keys, b), Claim)
    keys.keep(held, ANSWER)
    assert claim(keys, a) == ANSWER
    assert claim(keys, a, fingerprint="other") == REUSED


def test_a_key_is_free_again_after_a_day_and_once_released(
    keys: Idempotency, tenants: list[str], clock: ManualClock
) -> None:
    a, _ = tenants
    first = claim(keys, a)
    keys.release(first)
    second = claim(keys, a, fingerprint="other")
    assert isinstance(second, Claim)
    clock.ms += 500
    keys.keep(second, ANSWER)
    clock.ms += KEEP_MS - 1
    assert claim(keys, a, fingerprint="other") == ANSWER
    clock.ms += 1
    third = claim(keys, a)
    assert isinstance(third, Claim)
    assert len({first.made_id, second.made_id, third.made_id}) == 3


def test_whoever_takes_over_makes_the_same_and_the_late_one_says_nothing(
    keys: Idempotency, tenants: list[str], clock: ManualClock
) -> None:
    a, _ = tenants
    dead = claim(keys, a)
    clock.ms += 999
    assert claim(keys, a) == IN_PROGRESS
    clock.ms += 1
    assert claim(keys, a, fingerprint="other") == REUSED
    heir = claim(keys, a)
    assert isinstance(heir, Claim)
    assert (heir.made_id, heir.id != dead.id) == (dead.made_id, True)
    keys.keep(dead, KeptAnswer(500, [], "late"))
    keys.release(dead)
    assert claim(keys, a) == IN_PROGRESS
    keys.keep(heir, ANSWER)
    assert claim(keys, a) == ANSWER


def test_of_many_at_once_one_holds_it_also_when_it_is_taken_over(
    keys: Idempotency, tenants: list[str], clock: ManualClock
) -> None:
    a, _ = tenants
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda _: claim(keys, a), range(16)))
            assert sum(isinstance(each, Claim) for each in found) == 1
            assert found.count(IN_PROGRESS) == 15
            clock.ms += 1000


def test_the_table_does_not_grow_for_ever(
    keys: Idempotency, record: Store, tenants: list[str], clock: ManualClock
) -> None:
    a, _ = tenants
    for number in range(CLEARED_WITH_EACH + 1):
        claim(keys, a, f"old-{number}")
    clock.ms += KEEP_MS
    claim(keys, a, "new-1")
    claim(keys, a, "new-2")
    table = IdempotencyRecord(record)
    left = [number for number in range(CLEARED_WITH_EACH + 1) if table.find(a, f"old-{number}") is not None]
    assert left == []
    assert table.find(a, "new-1") is not None


def test_a_hundred_submits_over_four_processes_make_one_job(road: Road) -> None:
    road.model()
    key = road.services.accounts.create_key("acme", actor="test").key
    running = [road.start_script(SUBMIT, key, str(EACH)) for _ in range(PROCESSES)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", road.log()
    answers: list[list[Any]] = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in running:
        told = process.communicate(timeout=60)[0]
        assert process.returncode == 0, road.log()
        answers += json.loads(told)
    assert len(answers) == PROCESSES * EACH
    (job,) = road.services.jobs.list(None, 9)
    assert {(status, job_id) for status, job_id in answers} == {(202, job.id)}
    assert road.depth() == 1


def test_the_heir_of_a_submit_that_was_made_gets_that_job(road: Road) -> None:
    road.model()
    request = road.request()
    first, again = (road.services.jobs.submit(road.tenant, request) for _ in range(2))
    assert first == again
    assert road.depth() == 1

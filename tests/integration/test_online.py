"""Does a waiting client get one answer from one attempt, whatever becomes of the others?"""

from __future__ import annotations

from typing import Any

import pytest

from qosqueue.broker.outbox import Outbox, ReplyWriter
from qosqueue.broker.replies import Kind
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery, Reaped
from qosqueue.policy.refusal import Refusal
from qosqueue.service.online import Chunk, Detoured, Done, Failed, OnlineCall, Queued, Started
from tests.support.eventually import eventually
from tests.support.faulty import MakeFaulty
from tests.support.road import Road

CHUNK = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
DONE = {
    "finish_reason": "stop",
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "result": {"id": "x"},
    "queued_ms": 1,
    "first_token_ms": 2,
}
FAILED = {"status": 500, "code": "engine_failed", "message": "The model failed.", "param": None}
STARTED = {"worker": "w", "queued_ms": 1}


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def say(road: Road, call: OnlineCall, fence: int, *words: tuple[Kind, dict[str, Any]]) -> None:
    """What an attempt of that fence would write."""
    writer = ReplyWriter(Outbox(road.services.scripts), call._reader.address, call.id, fence)
    for kind, data in words:
        writer.write(kind, data)


def pick(road: Road, lease_ms: int = 60_000, model: str = "sim") -> Delivery:
    found = road.services.scripts.dispatch(lease_ms=lease_ms, holder="test", places=[("vip.light", model)])
    assert isinstance(found, Delivery)
    return found


def final(road: Road, call: OnlineCall) -> Any:
    """The row, which is written just after the end."""
    eventually(lambda: any(job.id == call.id for job in road.services.jobs.list(None, 9)), within_s=5)
    return road.job(call)


def test_a_client_that_waits_is_told_its_place(modelled: Road) -> None:
    first, second = modelled.call(), modelled.call()
    places = sorted(next(call.events(idle_s=0.05)).position for call in (first, second))  # type: ignore[union-attr]
    assert places == [1, 2]
    first.close()
    assert next(second.events(idle_s=0.05)) == Queued(1)
    second.close()
    assert modelled.depth() == 0
    assert final(modelled, first).status is JobStatus.CANCELLED


def test_late_words_of_a_lost_attempt_are_dropped(modelled: Road) -> None:
    call = modelled.call()
    say(modelled, call, 2, ("started", STARTED))
    say(modelled, call, 1, ("chunk", CHUNK), ("done", DONE))
    say(modelled, call, 2, ("chunk", CHUNK), ("done", DONE))
    assert [type(event) for event in call.events()] == [Started, Chunk, Done]
    call.close()
    row = final(modelled, call)
    assert (row.status, row.attempts, row.fence) == (JobStatus.SUCCEEDED, 2, 2)


def test_a_second_beginning_is_not_shown_and_its_attempt_is_stopped(modelled: Road) -> None:
    call = modelled.call()
    pick(modelled)
    say(modelled, call, 1, ("started", STARTED), ("chunk", CHUNK))
    say(modelled, call, 2, ("started", STARTED), ("chunk", CHUNK))
    *_, last = call.events()
    assert isinstance(last, Failed)
    assert last.error["code"] == "worker_lost"
    call.close()
    (key,) = modelled.services.redis.keys(f"{modelled.services.scripts.key}:msg:*")
    assert modelled.services.redis.hget(key, "cancel") == b"1", "nobody reads what the second attempt makes"
    assert final(modelled, call).status is JobStatus.FAILED


def test_a_request_that_waited_too_long_fails_and_leaves_the_queue(modelled: Road) -> None:
    call = modelled.call(ttl_ms=1)
    *_, last = call.events(idle_s=0.05)
    assert isinstance(last, Failed)
    assert last.error["status"] == 504
    call.close()
    assert modelled.depth() == 0
    assert final(modelled, call).status is JobStatus.EXPIRED


def test_an_answer_that_has_begun_outlives_the_time_to_live(modelled: Road) -> None:
    call = modelled.call(ttl_ms=500)
    pick(modelled)
    say(modelled, call, 1, ("started", STARTED))
    events = call.events(idle_s=0.05)
    assert isinstance(next(events), Started)
    eventually(lambda: modelled.services.scripts.server_ms() > call._row["expires_ms"], within_s=5)
    assert [next(events) for _ in range(3)] == [Queued(None)] * 3
    say(modelled, call, 1, ("done", DONE))
    assert isinstance(next(events), Done)
    call.close()


def test_a_request_that_the_broker_forgot_ends(modelled: Road) -> None:
    call = modelled.call()
    modelled.services.redis.flushall()
    *_, last = call.events(idle_s=0.02)
    assert isinstance(last, Failed)
    assert last.error["status"] == 503
    call.close()


def test_a_poisonous_request_fails_and_its_dead_letter_is_kept(modelled: Road) -> None:
    call = modelled.call()
    for _ in range(call.profile.max_attempts):
        pick(modelled, lease_ms=1)
        eventually(lambda: modelled.services.scripts.reap(limit=9) != Reaped(), within_s=2)
    *_, last = call.events(idle_s=0.02)
    assert isinstance(last, Failed)
    call.close()
    assert modelled.services.queues.position_of(call.id).dead


def test_what_was_answered_is_withdrawn_from_nobody(modelled: Road) -> None:
    call = modelled.call()
    pick(modelled)
    say(modelled, call, 1, ("failed", {"status": 400, "code": "bad", "message": "no", "param": None}))
    assert [type(event) for event in call.events()] == [Failed]
    call.close()
    call.close()
    (key,) = modelled.services.redis.keys(f"{modelled.services.scripts.key}:msg:*")
    assert modelled.services.redis.hget(key, "cancel") == b"0"


def fails(road: Road, call: OnlineCall) -> tuple[Delivery, Delivery]:
    """The first attempt loses its lease, the last one says that the model has failed and is not settled yet; both."""
    first = pick(road, lease_ms=1)
    eventually(lambda: road.services.scripts.reap(limit=9) != Reaped(), within_s=2)
    last = pick(road)
    say(road, call, first.fence, ("started", STARTED))
    say(road, call, last.fence, ("started", STARTED), ("failed", FAILED))
    return first, last


def test_a_late_word_of_the_model_that_failed_is_not_taken_for_the_fallbacks(faulty: MakeFaulty) -> None:
    road = faulty()
    call = road.call()
    first, last = fails(road, call)
    assert road.services.scripts.settle(tag=last.tag, fence=last.fence, outcome="void") == 1
    events = call.events(idle_s=0.05)
    assert [type(next(events)) for _ in range(3)] == [Started, Started, Detoured]
    say(road, call, first.fence, ("chunk", CHUNK), ("done", DONE))
    spare = pick(road, model="spare")
    assert spare.fence > last.fence
    say(road, call, spare.fence, ("started", STARTED), ("done", DONE | {"result": {"id": "of spare"}}))
    *_, done = (event for event in events if not isinstance(event, Queued))
    assert isinstance(done, Done)
    assert done.result == {"id": "of spare"}
    call.close()
    row = final(road, call)
    assert (row.model, row.status, row.fence) == ("spare", JobStatus.SUCCEEDED, spare.fence)


def test_a_fallback_that_does_not_begin_in_its_time_to_live_is_not_waited_for(faulty: MakeFaulty) -> None:
    road = faulty()
    call = road.call(ttl_ms=500)
    _, last = fails(road, call)
    road.services.scripts.settle(tag=last.tag, fence=last.fence, outcome="void")
    *_, end = call.events(idle_s=0.05)
    call.close()
    assert isinstance(end, Failed)
    assert end.error["status"] == 504
    assert (final(road, call).status, road.depth()) == (JobStatus.EXPIRED, 0)


def test_a_request_that_was_let_in_once_falls_back_although_another_has_taken_its_place(faulty: MakeFaulty) -> None:
    road = faulty()
    road.tenant = road.services.accounts.update_tenant("acme", actor="test", max_in_flight=1, max_queued=1)
    call = road.call()
    _, last = fails(road, call)
    road.services.scripts.settle(tag=last.tag, fence=last.fence, outcome="void")
    road.submit()
    assert isinstance(road.services.online.start(road.tenant, road.request()), Refusal)
    events = call.events(idle_s=0.05)
    assert [type(next(events)) for _ in range(3)] == [Started, Started, Detoured]
    assert pick(road, model="spare").task == call.id
    call.close()


@pytest.mark.parametrize("has_its_head", [False, True])
def test_a_stream_that_can_become_no_job_any_more_has_the_fallback_behind_that(
    faulty: MakeFaulty, has_its_head: bool
) -> None:
    road = faulty()
    road.tenant = road.services.accounts.update_tenant("acme", actor="test", road=["defer", "fallback"])
    call = road.call(may_defer=True)
    if has_its_head:
        call.stays_a_stream()
    _, last = fails(road, call)
    road.services.scripts.settle(tag=last.tag, fence=last.fence, outcome="void")
    events = call.events(idle_s=0.05)
    *_, end = [next(events) for _ in range(3)]
    assert isinstance(end, Detoured if has_its_head else Failed)
    assert isinstance(end, Detoured) or end.as_job
    call.close()


def test_while_its_failed_message_is_still_there_nothing_else_is_queued_and_it_is_taken_back(
    faulty: MakeFaulty,
) -> None:
    road = faulty()
    call = road.call()
    _, last = fails(road, call)
    *_, end = call.events(idle_s=0.05)
    assert isinstance(end, Failed)
    assert road.depth() == 0, "the fallback was not asked beside it"
    call.close()
    assert road.services.scripts.settle(tag=last.tag, fence=last.fence, outcome="requeue") == 2, "it runs no more"


def test_a_request_that_was_not_queued_is_not_waited_for(modelled: Road) -> None:
    modelled.services.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable):
            modelled.services.online.start(modelled.tenant, modelled.request())
    finally:
        modelled.services.redis.config_set("maxmemory", 0)
    assert modelled.services.jobs.list(None, 9) == []

"""Does every line of a batch end in one of its files, once, whatever is wrong with it?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from qosqueue.policy.batch import BatchStatus
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.refusal import Refusal
from qosqueue.service import batch_feed
from qosqueue.service.admission import Admission
from qosqueue.service.batch_lines import RawLine, check_line
from qosqueue.service.endpoints import ENDPOINTS
from tests.support.batch_world import COUNTS, PLACES, begin, chats, expire, feed, lines_of, serve
from tests.support.bulk import CHAT_URL, line
from tests.support.road import Road


@pytest.fixture
def modelled(road: Road) -> Road:
    road.model()
    return road


def test_every_line_ends_in_the_output(modelled: Road) -> None:
    batch = feed(modelled, begin(modelled, chats(7), metadata={"k": "v"}))
    assert (batch.status, batch.total, batch.completed) == (BatchStatus.IN_PROGRESS, 7, 0)
    assert modelled.depth() == 7
    jobs = modelled.services.jobs.list(modelled.tenant.id, 10)
    assert {job.task_type for job in jobs} == {"batch"}
    assert {job.expires_ms for job in jobs} == {batch.expires_ms}
    assert {job.details["custom_id"] for job in jobs} == {f"c{number}" for number in range(7)}
    assert len(serve(modelled)) == 7
    done = feed(modelled, batch)
    assert (done.status, done.total, done.completed, done.failed) == (BatchStatus.COMPLETED, 7, 7, 0)
    stamps = [done.created_ms, done.in_progress_ms, done.finalizing_ms, done.completed_ms]
    assert stamps == sorted(stamps, key=lambda at: at or 0)
    assert done.error_file_id is None
    rows = lines_of(modelled, done.output_file_id)
    assert list(rows) == [f"c{number}" for number in range(7)], "in the order of the input"
    assert rows["c3"]["response"]["body"] == {"said": "say 3"}
    assert (rows["c3"]["response"]["status_code"], rows["c3"]["error"]) == (200, None)
    output = modelled.services.files.get(modelled.tenant.id, done.output_file_id or "")
    assert (output.purpose, output.filename) == ("batch_output", f"{done.id}_output.jsonl")
    assert output.bytes == modelled.services.files.path(output.id).stat().st_size


WRONG: list[tuple[dict[str, Any] | bytes, str, str | None]] = [
    (b"{", "invalid_json", None),
    (b"[]", "invalid_json", None),
    (b'{"custom_id": NaN}', "invalid_json", None),
    (b"\xff", "invalid_json", None),
    (b"\xef\xbb\xbf" + json.dumps(line("bom")).encode(), "invalid_json", None),
    (b"x" * 70_000, "line_too_long", None),
    (line("good-0", model="sim"), "duplicate_custom_id", "custom_id"),
    (line("url", url="/v1/embeddings"), "invalid_value", "url"),
    (line("get") | {"method": "GET"}, "invalid_value", "method"),
    (line("more") | {"priority": 0}, "unknown_field", "priority"),
    (line("body", max_tokens=0), "invalid_value", "body.max_tokens"),
    (line("stream", stream=True), "invalid_value", "body.stream"),
    (line("model", model="never"), "model_not_found", "body.model"),
    (line("") | {"custom_id": ""}, "invalid_value", "custom_id"),
    (line("nul\u0000"), "invalid_value", "custom_id"),
    ({"method": "POST", "url": CHAT_URL, "body": {}}, "invalid_value", "custom_id"),
    (line("long", model="sim", text="x" * 66_000), "line_too_long", None),
]


def test_a_line_that_ends_too_soon_is_told_without_a_place_of_the_parsers(modelled: Road) -> None:
    checked = check_line(RawLine(7, 0, 2, b"{\n"), CHAT_URL, modelled.services.catalog, 99)
    assert isinstance(checked.body, Refusal)
    assert checked.body.message == "the line is not valid JSON: EOF while parsing an object"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_endpoint_may_be_a_batchs(modelled: Road, endpoint: str) -> None:
    asked: dict[str, Any] = {CHAT_URL: {"messages": [{"role": "user", "content": "Hi"}]}}
    asked["/v1/completions"] = {"prompt": "Hi"}
    body = {"model": "sim", "service_tier": "flex", **asked.get(endpoint, {"input": "Hi"})}
    sent = {"custom_id": "c", "method": "POST", "url": endpoint, "body": body}
    other = next(each for each in ENDPOINTS if each != endpoint)
    batch = feed(modelled, begin(modelled, [sent, {**sent, "custom_id": "d", "url": other}], endpoint=endpoint))
    (job,) = modelled.services.jobs.list(modelled.tenant.id, 5)
    assert (job.endpoint, job.details["service_tier"]) == (endpoint, "flex")
    assert job.body == ENDPOINTS[endpoint].model_validate(body).engine_body()
    told = [sentence.text for sentence in modelled.services.explanations.of_tenant(job.tenant_id, job.id).sentences]
    assert told[0].startswith("Admitted to vip.light"), told
    delivery = modelled.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    assert isinstance(delivery, Delivery)
    assert modelled.services.attempts.begin(job.id, delivery.fence, "w") == job.body
    assert modelled.services.attempts.finish(job.id, delivery.fence, {"object": "it"}, **COUNTS)
    done = feed(modelled, batch)
    assert (done.status, done.completed, done.failed) == (BatchStatus.COMPLETED, 1, 1)
    assert lines_of(modelled, done.output_file_id)["c"]["response"]["body"] == {"object": "it"}
    assert lines_of(modelled, done.error_file_id)["d"]["error"]["param"] == "url"


def test_what_is_wrong_is_told_by_line_and_the_rest_runs(make_settings: Any) -> None:
    road = Road(make_settings(lease_ms=2_000, sweep_ms=200, max_body_bytes=65_536))
    try:
        road.model()
        good = [line(f"good-{number}", model="sim", text=f"say {number}") for number in range(3)]
        sent = [good[0], b"", *(each for each, _, _ in WRONG), good[1], b"  ", good[2]]
        batch = feed(road, begin(road, sent))
        assert (batch.status, batch.total, batch.failed) == (BatchStatus.IN_PROGRESS, 3 + len(WRONG), len(WRONG))
        serve(road)
        done = feed(road, batch)
        assert (done.status, done.completed, done.failed) == (BatchStatus.COMPLETED, 3, len(WRONG))
        assert set(lines_of(road, done.output_file_id)) == {"good-0", "good-1", "good-2"}
        told = [
            json.loads(each) for each in road.services.files.path(done.error_file_id or "").read_text().splitlines()
        ]
        assert [(row["error"]["line"], row["error"]["code"], row["error"]["param"]) for row in told] == [
            (number, code, param) for number, (_, code, param) in enumerate(WRONG, 3)
        ]
        assert all(row["response"] is None for row in told)
        assert {"url", "get", "more", "body", "stream", "model"} <= {row["custom_id"] for row in told}
    finally:
        road.close()


@pytest.mark.parametrize(
    ("lines", "code", "count"),
    [([], "empty_file", 0), ([b"", b" "], "empty_file", 0), ([b"{", b"[]"], "invalid_json", 2)],
)
def test_a_batch_without_a_sound_line_fails(modelled: Road, lines: list[Any], code: str, count: int) -> None:
    batch = feed(modelled, begin(modelled, lines))
    assert (batch.status, batch.total, batch.failed) == (BatchStatus.FAILED, count, count)
    assert batch.failed_ms is not None
    assert batch.errors is not None
    assert batch.errors["data"][0]["code"] == code


def test_too_many_lines_fail(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_feed, "MOST_LINES", 5)
    batch = feed(modelled, begin(modelled, chats(6)))
    assert batch.errors is not None
    assert (batch.status, batch.errors["data"][0]["code"]) == (BatchStatus.FAILED, "too_many_lines")
    assert modelled.depth() == 0


def test_a_file_that_is_gone_fails_the_batch(modelled: Road) -> None:
    batch = begin(modelled, chats(1))
    modelled.services.files.path(batch.input_file_id).unlink()
    assert feed(modelled, batch).status is BatchStatus.FAILED


def test_no_more_than_a_window_is_queued(make_settings: Any) -> None:
    road = Road(make_settings(batch_window=4))
    try:
        road.model()
        batch = feed(road, begin(road, chats(10)))
        served: list[str] = []
        while batch.status is BatchStatus.IN_PROGRESS:
            assert 0 < road.depth() <= 4
            served += serve(road)
            batch = feed(road, batch)
        assert (batch.status, batch.completed) == (BatchStatus.COMPLETED, 10)
        assert len(served) == len(set(served)) == 10
    finally:
        road.close()


def test_a_line_that_the_model_fails_is_told_with_its_answer(modelled: Road) -> None:
    batch = feed(modelled, begin(modelled, chats(2)))
    serve(modelled, fail=frozenset({"say 1"}))
    done = feed(modelled, batch)
    assert (done.status, done.completed, done.failed) == (BatchStatus.COMPLETED, 1, 1)
    (row,) = lines_of(modelled, done.error_file_id).values()
    assert (row["custom_id"], row["error"], row["response"]["status_code"]) == ("c1", None, 500)
    assert row["response"]["body"]["error"]["code"] == "engine_failed"


def test_cancel_stops_what_has_not_begun(make_settings: Any) -> None:
    road = Road(make_settings(batch_window=3))
    try:
        road.model()
        batch = feed(road, begin(road, chats(6)))
        runs = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
        assert isinstance(runs, Delivery)
        assert road.services.attempts.begin(runs.task, runs.fence, "w") is not None
        road.services.batches.cancel(road.tenant.id, batch.id)
        stopping = feed(road, batch)
        assert stopping.status is BatchStatus.CANCELLING
        assert road.depth() == 0
        assert road.services.jobs.find(runs.task).status is JobStatus.RUNNING
        assert road.services.attempts.finish(runs.task, runs.fence, {}, **COUNTS)
        done = feed(road, batch)
        assert (done.status, done.completed, done.failed) == (BatchStatus.CANCELLED, 1, 5)
        assert done.cancelled_ms is not None
        assert len(lines_of(road, done.output_file_id)) == 1
        told = lines_of(road, done.error_file_id)
        assert {row["error"]["code"] for row in told.values()} == {"batch_cancelled"}
        assert len(told) == 5
    finally:
        road.close()


def test_what_is_unfinished_at_the_end_of_the_window_has_expired(make_settings: Any) -> None:
    road = Road(make_settings(batch_window=3))
    try:
        road.model()
        batch = feed(road, begin(road, chats(6)))
        runs = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
        assert isinstance(runs, Delivery)
        assert road.services.attempts.begin(runs.task, runs.fence, "w") is not None
        expire(road, batch)
        closing = feed(road, batch)
        assert closing.status is BatchStatus.FINALIZING
        assert road.services.attempts.cancelled(runs.task, runs.fence), "it was told to stop"
        done = feed(road, batch)
        assert (done.status, done.completed, done.failed) == (BatchStatus.EXPIRED, 0, 6)
        assert done.expired_ms is not None
        told = lines_of(road, done.error_file_id)
        assert {row["error"]["code"] for row in told.values()} == {"batch_expired"}
        assert len(told) == 6
    finally:
        road.close()


def test_a_batch_that_expires_before_it_is_looked_at_tells_each_line(modelled: Road) -> None:
    batch = begin(modelled, chats(3))
    expire(modelled, batch)
    done = feed(modelled, batch)
    assert (done.status, len(lines_of(modelled, done.error_file_id))) == (BatchStatus.EXPIRED, 3)


def test_a_refusal_that_passes_waits_and_one_that_lasts_ends_the_line(
    modelled: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = Admission.admit
    refusals = {
        "say 1": Refusal(429, "insufficient_quota", "never"),
        "say 2": Refusal(429, "rate_limit_exceeded", "soon", retry_after_s=1),
    }

    def sometimes(self: Admission, plan: Any, job_id: str) -> Any:
        return refusals.get(plan.request.body["messages"][0]["content"]) or admit(self, plan, job_id)

    monkeypatch.setattr(Admission, "admit", sometimes)
    batch = feed(modelled, begin(modelled, chats(4)))
    assert (modelled.depth(), batch.failed) == (1, 1), "those behind the one that is held up wait with it"
    del refusals["say 2"]
    feed(modelled, batch)
    serve(modelled)
    done = feed(modelled, batch)
    assert (done.status, done.completed, done.failed) == (BatchStatus.COMPLETED, 3, 1)
    (row,) = lines_of(modelled, done.error_file_id).values()
    assert (row["custom_id"], row["error"]["code"], row["error"]["line"]) == ("c1", "insufficient_quota", 2)

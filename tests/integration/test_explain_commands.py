"""Do `qosqueue job explain` and `qosqueue usage` tell an operator what happened, with names?"""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from qosqueue.cli import app
from qosqueue.policy.reference.message import Delivery
from qosqueue.policy.terms import TaskType, Tier
from qosqueue.store.records import Job
from tests.support.eventually import eventually
from tests.support.messages import submission
from tests.support.road import Road

PLACES = [("vip.light", "sim"), ("basic.light", "sim"), ("host", "")]


@pytest.fixture
def modelled(road: Road, monkeypatch: pytest.MonkeyPatch) -> Road:
    """A road that the commands of this process find by its settings."""
    road.model()
    monkeypatch.setenv("QOSQUEUE_HOME", str(road.settings.home))
    monkeypatch.setenv("QOSQUEUE_REDIS_URL", str(road.settings.redis_url))
    return road


def run(words: str) -> Result:
    return CliRunner().invoke(app, shlex.split(words))


def run_json(words: str) -> Any:
    done = run(f"{words} --json")
    assert done.exit_code == 0, done.stderr or done.exception
    return json.loads(done.stdout)


def pick(road: Road, lease_ms: int = 60_000) -> Delivery:
    found = road.services.scripts.dispatch(lease_ms=lease_ms, holder="gpu-7", places=PLACES)
    assert isinstance(found, Delivery)
    return found


def begin(road: Road, **how: Any) -> Delivery:
    found = pick(road, **how)
    assert road.services.attempts.begin(found.task, found.fence, "gpu-7", found.passage) is not None
    return found


def test_a_request_that_was_passed_over_reranked_and_retried_tells_so(modelled: Road) -> None:
    stranger = modelled.services.accounts.create_tenant("stranger", Tier.BASIC, actor="test")
    modelled.services.limits.set("t:stranger", 0, actor="test", for_s=3_600)
    job = modelled.services.jobs.submit(stranger, modelled.request())
    assert isinstance(job, Job)
    for _ in range(2):
        modelled.submit()
    waiting = run(f"job explain {job.id}")
    assert waiting.exit_code == 0, waiting.stderr
    assert "its tenant's cap (0 at once) is reached" in waiting.stdout
    assert run(f"job rerank {job.id} --priority 7").exit_code == 0
    begin(modelled)
    begin(modelled)
    modelled.services.limits.lift("t:stranger", actor="test")
    begin(modelled, lease_ms=1)
    eventually(lambda: modelled.services.watchdog.reap().outcome["requeued"], within_s=5)
    last = begin(modelled)
    assert (last.task, last.fence) == (job.id, 2)
    told = run_json(f"job explain {job.id}")
    assert [each["kind"] for each in told["decisions"]] == [
        "admitted", "reranked", "dispatched", "lease_lost", "dispatched",
    ]  # fmt: skip
    for words in (
        "An operator moved it: priority 7.",
        "2 requests of its model began before it (2 of vip tenants); its tenant ran as many at once as its cap allows",
        "Attempt 1 began on gpu-7",
        "The worker of attempt 1 was lost",
        "Attempt 2 began on gpu-7",
        "Attempt 2 has been running on gpu-7",
    ):
        assert words in told["text"], told["text"]


def test_an_operator_hears_names(modelled: Road) -> None:
    stranger = modelled.services.accounts.create_tenant("stranger", Tier.BASIC, actor="test")
    modelled.submit()
    job = modelled.services.jobs.submit(stranger, modelled.request(TaskType.ASYNC))
    assert isinstance(job, Job)
    begin(modelled)
    begin(modelled)
    told = run_json(f"job explain {job.id}")
    assert told["began_before"] == [{"tenant": "acme", "requests": 1}]
    assert "Whose requests began while it waited: acme 1." in told["text"]


def test_a_host_projects_task_is_explained_while_the_queue_knows_it(modelled: Road) -> None:
    scripts = modelled.services.scripts
    for tag in ("first", "second"):
        scripts.submit(**submission(tag, lane="host", model="", tenant="a", priority=5, budget_ms=3_000))
    scripts.submit(**submission("later", lane="host", model="", delay_ms=60_000))
    told = run_json("job explain task-second")
    assert told["status"] == "queued"
    assert "1 of its model stand before it (1 host), 1 of them was its own tenant's." in told["text"]
    assert "no worker serves its lane" in told["text"]
    assert "It waits for its ETA, in" in run_json("job explain task-later")["text"]
    first = pick(modelled)
    assert "Attempt 1 has been running on gpu-7" in run_json("job explain task-first")["text"]
    scripts.withdraw(task="task-first")
    assert "It was told to stop." in run_json("job explain task-first")["text"]
    scripts.settle(tag=first.tag, fence=first.fence, outcome="done")
    second = pick(modelled)
    scripts.settle(tag=second.tag, fence=second.fence, outcome="dead")
    told = run_json("job explain task-second")
    assert (told["status"], "kept as a dead letter" in told["text"]) == ("failed", True)
    unknown = run("job explain task-first")
    assert unknown.exit_code == 1
    assert "no job 'task-first'" in str(unknown.exception)


def test_batch_and_late_work_are_told_what_they_wait_for(modelled: Road) -> None:
    modelled.submit()
    batch = modelled.submit(task_type=TaskType.BATCH)
    told = run_json(f"job explain {batch.id}")
    assert "1 of its model stand before it (1 vip)" in told["text"]
    short = modelled.submit(ttl_ms=1)
    eventually(lambda: "dispatch" if _expires(modelled, short) else None, within_s=5)
    modelled.services.scripts.dispatch(lease_ms=1_000, holder="w", places=PLACES)
    modelled.services.scripts.dispatch(lease_ms=1_000, holder="w", places=PLACES)
    assert "Its time to live is over" in run_json(f"job explain {short.id}")["text"]


def _expires(road: Road, job: Job) -> bool:
    return road.services.scripts.server_ms() > job.expires_ms


def test_usage_is_listed_by_day_tenant_and_model(modelled: Road) -> None:
    job = modelled.submit()
    begin(modelled)
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "first_token_ms": 1, "gpu_ms": 5}
    assert modelled.services.attempts.finish(job.id, 1, {}, **counts)
    (used,) = run_json("usage")
    assert (used["tenant"], used["model"], used["requests"], used["gpu_ms"]) == ("acme", "sim", 1, 5)
    assert run_json("usage --tenant acme --since 2000-01-01 --until 2000-01-02") == []
    assert run("usage").stdout.splitlines()[0].split() == [
        "day", "tenant", "model", "requests", "prompt_tokens", "completion_tokens", "gpu_ms",
    ]  # fmt: skip
    wrong = run("usage --since yesterday")
    assert (wrong.exit_code, "since: expected a day as 2026-01-31" in wrong.stderr) == (2, True)
    assert run("usage --tenant nobody").exit_code == 1

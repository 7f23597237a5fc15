"""Do the commands that limit, move and replay do so on a running queue, with an audit row each and clear errors?"""

from __future__ import annotations

import getpass
import json
import shlex
from collections.abc import Callable
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from qosqueue.cli import app
from qosqueue.errors import Conflict, QosqueueError
from qosqueue.policy.lifecycle import JobStatus
from qosqueue.policy.reference.message import Delivery, Reaped
from qosqueue.policy.terms import TaskType
from qosqueue.service.audit import Audit
from qosqueue.service.online import Failed
from qosqueue.store.records import AuditEntry
from tests.support.eventually import eventually
from tests.support.killing import kill
from tests.support.messages import submission
from tests.support.road import Road

PLACES = [("vip.light", "sim")]
Command = Callable[..., Result]


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
    assert done.stderr == ""
    return json.loads(done.stdout)


def audited(road: Road) -> AuditEntry:
    newest = Audit(road.services.store).list(1)[0]
    assert newest.actor == f"cli:{getpass.getuser()}"
    return newest


def pick(road: Road) -> Delivery | None:
    found = road.services.scripts.dispatch(lease_ms=60_000, holder="test", places=PLACES)
    return found if isinstance(found, Delivery) else None


def test_a_cap_set_by_command_holds_for_queued_work_at_once(modelled: Road) -> None:
    for _ in range(3):
        modelled.submit()
    assert run("tenant update acme --max-running 1").exit_code == 0
    assert pick(modelled) is not None
    assert pick(modelled) is None
    (cap,) = run_json("queue limits")
    assert (cap["tenant"], cap["most"], cap["running"], cap["until_ms"]) == (modelled.tenant.id, 1, 1, None)
    assert run("tenant update acme --clear max_running").exit_code == 0
    assert pick(modelled) is not None
    assert run_json("queue limits") == []


def test_a_lane_is_paused_and_goes_on(modelled: Road) -> None:
    modelled.submit()
    paused = run_json("queue limit --lane vip.light --most 0")
    assert (paused["name"], paused["lane"], paused["most"], paused["until_ms"]) == ("l:vip.light", "vip.light", 0, None)
    assert (audited(modelled).action, audited(modelled).subject) == ("limit.set", "l:vip.light")
    assert pick(modelled) is None
    assert run("queue limits").stdout.splitlines()[1].split() == ["l:vip.light", "-", "vip.light", "-", "0", "-", "0"]
    assert run("queue unlimit --lane vip.light").stdout == "lifted l:vip.light\n"
    entry = audited(modelled)
    assert (entry.action, entry.before) == ("limit.lift", {"most": 0, "until_ms": None})
    assert pick(modelled) is not None


def test_each_kind_of_limit_has_its_options_and_its_name(modelled: Road) -> None:
    assert run_json("queue limit --model sim --most 0 --for-s 3600")["until_ms"] > 1_700_000_000_000
    assert run_json("queue limit --lane vip.light --model sim --most 2")["name"] == "p:9:vip.light:sim"
    assert run_json("queue limit --tenant acme --most 0 --for-s 60")["name"] == f"t:{modelled.tenant.id}"
    assert run_json("queue limit t:acme --most 1 --for-s 60")["tenant"] == modelled.tenant.id
    assert run_json("queue limit p:9:vip.light:sim --most 3")["model"] == "sim"
    assert run_json("queue limit 't:of a host' --most 3")["tenant"] == "of a host"
    assert [view["most"] for view in run_json("queue limits")] == [0, 3, 3, 1]
    shown = run("queue limits").stdout
    assert "acme" in shown
    assert "Z" in shown, "an instant for people"


def test_people_read_the_names_of_tenants(modelled: Road) -> None:
    run("tenant update acme --max-running 5")
    assert run("queue limits").stdout.splitlines()[1].split()[:2] == ["t:acme", "acme"]
    assert run_json("queue limits")[0]["name"] == f"t:{modelled.tenant.id}"
    job = modelled.submit()
    assert [run(f"job {words}").stdout.splitlines()[1].split()[1] for words in ("list", f"get {job.id}")] == [
        "acme"
    ] * 2


def test_a_job_that_has_ended_is_not_said_to_be_cancelled(modelled: Road) -> None:
    job = modelled.submit()
    assert run(f"job cancel {job.id}").stderr == ""
    assert run(f"job cancel {job.id}").stderr == "nothing was cancelled: the job was cancelled before\n"


def test_what_an_operator_gave_for_a_time_stands_in_place_of_the_cap(modelled: Road) -> None:
    run("tenant update acme --max-running 5")
    run("queue limit --tenant acme --most 1 --for-s 60")
    assert modelled.services.watchdog.age().outcome["limits"] == []
    assert [view["most"] for view in run_json("queue limits")] == [1]
    run("queue unlimit --tenant acme")
    assert [(view["most"], view["until_ms"]) for view in run_json("queue limits")] == [(5, None)]


def test_a_dead_letter_is_listed_and_runs_again(modelled: Road) -> None:
    job = modelled.submit()
    kill(modelled, job)
    (letter,) = run_json("queue dead")
    assert (letter["task"], letter["lane"], letter["model"], letter["attempts"]) == (job.id, "vip.light", "sim", 3)
    assert letter["why"].startswith("attempts_exhausted: ")
    table = run("queue dead").stdout.splitlines()
    assert table[0].split() == ["task", "tag", "lane", "model", "tenant", "attempts", "died", "why"]
    assert table[1].split()[1::3][:2] == [letter["tag"], "acme"]
    assert {lane["lane"]: lane["dead"] for lane in run_json("queue list")}["vip.light"] == 1
    assert run_json(f"job replay {job.id}") == {"task": job.id, "lane": "vip.light", "status": "queued"}
    entry = audited(modelled)
    assert (entry.action, entry.subject, entry.after) == ("job.replay", job.id, {"status": "queued"})
    again = modelled.job(job)
    assert (again.status, again.error, again.finished_ms) == (JobStatus.QUEUED, None, None)
    assert again.expires_ms > job.expires_ms
    attempts = modelled.services.attempts
    assert not attempts.fail(job.id, 3, {"late": True}), "an attempt from before has nothing to say"
    found = pick(modelled)
    assert found is not None
    assert attempts.begin(job.id, found.fence, "w") == job.body
    assert attempts.finish(job.id, found.fence, {}, prompt_tokens=1, completion_tokens=1, first_token_ms=1)
    assert run_json("queue dead") == []


def test_dead_letters_are_forgotten_one_by_one_and_by_age(modelled: Road) -> None:
    jobs = [modelled.submit() for _ in range(3)]
    for job in jobs:
        kill(modelled, job)
    assert run_json(f"job discard {jobs[0].id}") == {"discarded": jobs[0].id}
    assert (audited(modelled).action, audited(modelled).subject) == ("job.discard", jobs[0].id)
    assert run_json("queue discard --older-than-days 1") == {"discarded": 0}
    assert {letter["task"] for letter in run_json("queue dead")} == {job.id for job in jobs[1:]}
    assert audited(modelled).action == "job.discard", "nothing was discarded, so nothing is on record"
    assert run("queue discard --older-than-days 0").stdout == "discarded: 2\n"
    assert audited(modelled).after == {"older_than_days": 0, "found": 2}
    assert run_json("queue dead") == []
    assert modelled.job(jobs[1]).status is JobStatus.FAILED, "its row keeps its error"


def test_an_older_dead_letter_of_the_same_task_is_found_by_its_tag(modelled: Road) -> None:
    job = modelled.submit()
    kill(modelled, job)
    scripts = modelled.services.scripts
    (last,) = run_json("queue dead")
    for tag in ("older", "newer"):
        scripts.submit(**submission(tag, task="sent twice", model="sim"))
    for _ in range(2):
        found = pick(modelled)
        assert found is not None
        scripts.settle(tag=found.tag, fence=found.fence, outcome="dead")
    refused = run("job replay older")
    assert isinstance(refused.exception, Conflict)
    assert "older is not the last message of sent twice" in str(refused.exception)
    assert run_json("job discard older") == {"discarded": "sent twice"}
    assert (audited(modelled).subject, audited(modelled).before["tag"]) == ("sent twice", "older")
    assert {letter["tag"] for letter in run_json("queue dead")} == {"newer", last["tag"]}
    assert run_json("job replay newer")["task"] == "sent twice"
    assert run_json(f"job replay {last['tag']}")["task"] == job.id
    assert modelled.job(job).status is JobStatus.QUEUED


def test_a_replayed_job_ends_with_an_answer_from_a_worker(modelled: Road) -> None:
    """Its message still says the old end of its time to live, which is over."""
    job = modelled.submit(ttl_ms=3_000)
    kill(modelled, job)
    # Before the replay: a worker that is slow to start would use up the new time to live too.
    modelled.worker("w")
    eventually(lambda: modelled.services.scripts.server_ms() > job.expires_ms, within_s=5)
    run_json(f"job replay {job.id}")
    eventually(lambda: modelled.job(job).status is JobStatus.SUCCEEDED, within_s=20)


def test_a_second_try_ends_a_replay_that_was_cut_off(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    job = modelled.submit()
    kill(modelled, job)
    letters = modelled.services.dead_letters
    with monkeypatch.context() as patch:
        patch.setattr(modelled.services.scripts, "replay", lambda **_: 0)
        with pytest.raises(QosqueueError, match="no dead letter any more"):
            letters.replay(job.id, actor="test")
    assert modelled.job(job).status is JobStatus.QUEUED
    letters.replay(job.id, actor="test")
    assert pick(modelled) is not None


def test_what_waits_is_moved(modelled: Road) -> None:
    first, second = modelled.submit(latency_budget_ms=90_000), modelled.submit(latency_budget_ms=90_000)
    changes = {"priority": 0, "budget_ms": 60_000}
    assert run_json(f"job rerank {second.id} --priority 0 --budget-ms 60000") == {"task": second.id} | changes
    row = modelled.job(second)
    assert (row.priority, row.latency_budget_ms, row.latency_class) == (0, 60_000, "low")
    assert (audited(modelled).action, audited(modelled).after) == ("job.rerank", changes)
    assert run_json(f"job rerank {first.id} --boost 9 --boost-s 60")["boost"] == 9
    scripts = modelled.services.scripts
    tag = cast(Any, scripts.client.hget(f"{scripts.key}:tasks", first.id)).decode()
    boosted_until = [cast(Any, scripts.client.hget(f"{scripts.key}:msg:{tag}", "boost_until"))]
    assert run(f"job rerank {first.id} --boost-s 0").stdout == f"moved: {first.id} (boost_s 0)\n"
    boosted_until.append(cast(Any, scripts.client.hget(f"{scripts.key}:msg:{tag}", "boost_until")))
    assert boosted_until[0] > boosted_until[1] == b"0"
    found = pick(modelled)
    assert found is not None
    assert found.task == second.id


def test_a_request_that_somebody_waits_for_is_not_replayed(modelled: Road) -> None:
    with_client = modelled.call()
    services = modelled.services
    for _ in range(2):
        assert isinstance(services.scripts.dispatch(lease_ms=1, holder="test", places=PLACES), Delivery)
        eventually(lambda: services.scripts.reap(limit=9) != Reaped(), within_s=5)
    last = list(with_client.events(0.05))[-1]
    assert isinstance(last, Failed)
    assert last.error["code"] == "worker_lost"
    eventually(lambda: services.jobs.list(None, 1), within_s=5)
    assert services.jobs.find(with_client.id).task_type is TaskType.ONLINE
    done = run(f"job replay {with_client.id}")
    assert isinstance(done.exception, QosqueueError)
    assert "nobody waits" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("queue limit x:y --most 1", 2, "name: expected t:TENANT, c:TIER, l:LANE, m:MODEL or p:LENGTH"),
        ("queue limit p:8:vip.light:sim --most 1", 2, "name: expected the length of 'vip.light' after p:, 9, got 8"),
        ("queue limit l:system --most 0", 2, "name: expected another lane than system"),
        ("queue limit l:vip.light --most -1", 2, "most: expected a whole number from 0"),
        ("queue limit l:vip.light --most 1 --for-s 0", 2, "for_s: expected a whole number from 1"),
        ("queue limit --most 1", 2, "name: expected a lane, a model, both, or a tenant"),
        ("queue limit --lane vip.light --tenant acme --most 1", 2, "name: expected a lane, a model, both, or a tenant"),
        ("queue limit l:a --lane vip.light --most 1", 2, "name: expected a name or options, not both"),
        ("queue limit --lane vip.haevy --most 1", 2, "lane: expected one of vip.light"),
        ("queue limit --tenant acme --most 1", 2, "--max-running"),
        ("queue limit t:acme --most 1", 2, "for_s: expected a time"),
        ("queue limit --model nope --most 1", 1, "no model 'nope'"),
        ("queue limit --tenant nobody --most 1", 1, "no tenant 'nobody'"),
        ("queue unlimit l:vip.light", 1, "no limit 'l:vip.light'"),
        ("job replay job_0", 1, "no dead letter of 'job_0'"),
        ("job replay {queued}", 1, "no dead letter of"),
        ("job discard {queued}", 1, "no dead letter of"),
        ("job rerank job_0 --priority 1", 1, "no job 'job_0'"),
        ("job rerank {queued}", 2, "expected --priority, --budget-ms or --boost"),
        ("job rerank {queued} --priority 3", 2, "priority: expected a whole number from 0 to 2, got 3"),
        (
            "job rerank {queued} --boost 1",
            2,
            "boost_s: expected for how long the boost counts, in seconds, got nothing",
        ),
        ("job rerank {queued} --boost-s 5", 2, "boost: expected a priority, 0 to 9, for that time, got nothing"),
        ("job rerank {queued} --boost 10 --boost-s 1", 2, "boost: expected a whole number from 0 to 9, got 10"),
        ("job rerank {queued} --budget-ms 0", 2, "budget_ms: expected a whole number from 1"),
        ("job rerank {running} --priority 1", 1, "is running: only what waits can be moved"),
        ("job rerank {ended} --priority 1", 1, "is cancelled: only what waits can be moved"),
    ],
)
def test_an_error_is_clear_and_changes_nothing(modelled: Road, words: str, code: int, told: str) -> None:
    running = modelled.submit()
    assert pick(modelled) is not None
    queued, ended = modelled.submit(), modelled.submit()
    modelled.services.jobs.cancel(modelled.tenant.id, ended.id)
    trail = len(Audit(modelled.services.store).list())
    done = run(words.format(queued=queued.id, running=running.id, ended=ended.id))
    # `main` prints what is raised, and ends with 1.
    said, got = (str(done.exception), 1) if isinstance(done.exception, QosqueueError) else (done.stderr, done.exit_code)
    assert (got, told in said) == (code, True), said
    assert len(Audit(modelled.services.store).list()) == trail
    assert modelled.services.limits.list() == []


def test_the_cap_of_the_record_is_not_lifted_behind_its_back(modelled: Road) -> None:
    run("tenant update acme --max-running 5")
    done = run("queue unlimit --tenant acme")
    assert isinstance(done.exception, QosqueueError)
    assert "--clear max_running" in str(done.exception)


def test_with_the_broker_away_a_tenant_is_changed_all_the_same(modelled: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOSQUEUE_REDIS_URL", f"unix://{modelled.settings.home}/none.sock")
    done = run("tenant update acme --max-running 5 --json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["max_running"] == 5
    assert done.stderr.startswith("qosqueue: recorded, and counts from the watchdog's next sweep on: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "queue limit",
        "queue limits",
        "queue unlimit",
        "queue dead",
        "queue discard",
        "job replay",
        "job discard",
        "job rerank",
    ],
)
def test_every_command_has_help(command: str) -> None:
    done = run(f"{command} --help")
    assert done.exit_code == 0
    assert "--json" in done.stdout

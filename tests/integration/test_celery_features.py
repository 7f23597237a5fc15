"""Do the features of Celery work for a project that only changed its transport: canvas, retries, inspect, revoke?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError

from tests.support.celery_processes import TcpBroker, celery, compat_worker, free_port, tcp_broker
from tests.support.compat_tasks import GROUP, make_app
from tests.support.eventually import eventually

# Celery's own result backend calls what redis-py 8 wants replaced.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

NOBODY = "nobody-serves-this"


class Project:
    """The client's side of a project with one running worker."""

    def __init__(self, broker: TcpBroker) -> None:
        self.broker = broker
        self.app: Celery = make_app(broker.url)

    def sign(self, name: str, *args: Any, **options: Any) -> Any:
        """The signature of a task."""
        return self.app.signature(name, args=args, **options)

    def messages(self) -> int:
        """How many messages the order has, in whatever state."""
        return sum(1 for _ in self.broker.client.scan_iter(match=f"{{{GROUP}}}:msg:*", count=1000))


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    with tcp_broker() as broker, compat_worker(broker.url):
        made = Project(broker)
        yield made
        made.app.close()


@pytest.fixture
def held(project: Project, tmp_path: Path) -> Iterator[Any]:
    """A task that runs until the test ends."""
    result = project.sign("hold", str(tmp_path), "held").apply_async()
    eventually((tmp_path / "began").exists, within_s=10)
    yield result
    (tmp_path / "held.end").touch()
    eventually(lambda: not project.messages(), within_s=10)


def test_canvas(project: Project) -> None:
    sign = project.sign
    adding = project.app.tasks["add"]
    wanted = {
        "chain": (chain(sign("add", 1, 2), sign("add", 4), sign("add", 8)), 15),
        "group": (group([sign("add", number, number) for number in range(4)], app=project.app), [0, 2, 4, 6]),
        "chord": (chord([sign("add", number, 1) for number in range(4)], sign("total"), app=project.app), 10),
        "a chain into a chord": (
            chain(sign("add", 1, 1), group([sign("add", 1), sign("add", 2)]), sign("total"), app=project.app),
            7,
        ),
        "map": (project.app.tasks["total"].map([[1, 2], [3, 4]]), [3, 7]),
        "starmap": (adding.starmap([(1, 2), (3, 4)]), [3, 7]),
        "chunks": (adding.chunks([(number, number) for number in range(4)], 2).group(), [[0, 2], [4, 6]]),
    }
    results = {name: canvas.apply_async() for name, (canvas, _) in wanted.items()}
    assert {name: result.get(timeout=20) for name, result in results.items()} == {
        name: value for name, (_, value) in wanted.items()
    }
    eventually(lambda: not project.messages(), within_s=5)


def test_automatic_retries(project: Project) -> None:
    assert project.sign("fail_twice").apply_async().get(timeout=20) == 2
    eventually(lambda: not project.messages(), within_s=5)


def test_countdowns_are_kept_by_retries_and_by_first_tries(project: Project) -> None:
    sent = time()
    later = project.sign("at").apply_async(countdown=3)
    again = project.sign("again_later", 1).apply_async()
    at_once = project.sign("at").apply_async()
    retries, again_at = again.get(timeout=20)
    assert retries == 1
    assert at_once.get(timeout=20) < later.get(timeout=20) >= sent + 3
    assert again_at >= sent + 1
    eventually(lambda: not project.messages(), within_s=5)


# What a header says of whose work it is, and the same with what it says of one task.
ACME = {"tenant": "acme", "organisation": "group", "priority": 7}
WHOLE = {"qos": {**ACME, "cost_ms": 5}}


def test_what_a_chain_sends_belongs_to_its_tenant(project: Project) -> None:
    sign = project.sign
    whose = sign("whose")
    third = chain(sign("add", 1, 2), whose, whose, app=project.app).apply_async(headers=WHOLE)
    parts = group([whose, whose], app=project.app).apply_async(headers=WHOLE)
    body = chord([sign("add", 1, 1), sign("add", 2, 2)], whose, app=project.app).apply_async(headers=WHOLE)
    assert third.get(timeout=20) == ACME
    assert third.parent.get(timeout=20) == ACME
    assert [part["tenant"] for part in parts.get(timeout=20)] == ["acme", "acme"]
    assert body.get(timeout=20)["tenant"] == "acme"
    members = chain(sign("add", 1, 2), group([whose, whose]), sign("whose_again"), app=project.app)
    last = members.apply_async(headers=WHOLE)
    assert last.get(timeout=20) == ACME
    assert last.parent.get(timeout=20) == [ACME, ACME]
    callback = sign("add", 1, 2).apply_async(link=whose.set(task_id="called back"), headers=WHOLE)
    assert callback.get(timeout=20) == 3
    assert project.app.AsyncResult("called back").get(timeout=20) == ACME


def test_what_a_task_sends_belongs_to_its_tenant_unless_it_says_otherwise(project: Project) -> None:
    def sent(*args: Any, **options: Any) -> Any:
        inner = project.sign("sends_another", *args).apply_async(**options).get(timeout=20)
        return project.app.AsyncResult(inner).get(timeout=20)

    assert sent(headers=WHOLE) == ACME
    assert sent("zenith", headers=WHOLE) == {"tenant": "zenith"}
    assert sent() is None


def test_a_retry_keeps_its_header(project: Project) -> None:
    assert project.sign("whose_again").apply_async(headers=WHOLE).get(timeout=20) == WHOLE["qos"]
    assert project.sign("whose_again").apply_async().get(timeout=20) is None


def test_replies_of_the_rpc_backend_are_not_in_the_order(project: Project) -> None:
    client = make_app(project.broker.url, result_backend="rpc://")
    with compat_worker(project.broker.url, slots=1, result_backend="rpc://", queue="replying"):
        results = [client.signature("add", args=(number, 1)).apply_async(queue="replying") for number in range(3)]
        assert results[0].get(timeout=20) == 1
        # Nobody asks for the others any more.
        eventually(lambda: not project.messages(), within_s=10)
    client.close()


def test_inspect(project: Project, held: Any) -> None:
    inspect = project.app.control.inspect(["prefork@compat"], timeout=5)
    ((active,),) = inspect.active().values()
    assert (active["id"], active["name"]) == (held.id, "hold")
    assert active["delivery_info"]["routing_key"] == "celery"
    assert inspect.reserved() == {"prefork@compat": []}
    assert inspect.scheduled() == {"prefork@compat": []}
    assert [queue["name"] for queue in inspect.active_queues()["prefork@compat"]] == ["celery"]
    stats = inspect.stats()["prefork@compat"]
    assert stats["pool"]["max-concurrency"] == 2
    assert stats["broker"]["transport"] == "redis"
    assert stats["broker"]["transport_options"]["celery"] == "CelerySide"
    assert "add" in inspect.registered()["prefork@compat"]
    assert inspect.conf()["prefork@compat"]["worker_prefetch_multiplier"] == 1


def test_inspect_tells_what_waits_for_its_eta_in_the_server(project: Project) -> None:
    inspect = project.app.control.inspect(["prefork@compat"], timeout=5)
    sent = [project.sign("add", 1, number).apply_async(countdown=60 - number) for number in range(2)]
    elsewhere = project.sign("add", 1, 9).apply_async(countdown=60, queue=NOBODY)
    # Neither can be told by this worker, and neither keeps the others from being.
    unreadable = project.app.send_task("add", (1, 1), countdown=60, serializer="pickle")
    unknown = project.app.send_task("no such task", countdown=60)
    told = inspect.scheduled()["prefork@compat"]
    assert [(each["request"]["id"], each["request"]["args"]) for each in told] == [
        (sent[1].id, [1, 1]),
        (sent[0].id, [1, 0]),
    ]
    assert told[0]["eta"] < told[1]["eta"]
    assert told[0]["request"]["delivery_info"]["routing_key"] == "celery"
    for result in (*sent, elsewhere, unreadable, unknown):
        project.app.control.revoke(result.id)
    eventually(lambda: inspect.scheduled() == {"prefork@compat": []}, within_s=5)


def test_a_revoked_task_leaves_the_queue_at_once_and_whoever_waits_is_told(project: Project) -> None:
    results = [project.sign("add", number, 1).apply_async(queue=NOBODY) for number in range(4)]
    assert project.messages() == 4
    project.app.control.revoke(results[0].id)
    assert project.messages() == 3
    project.app.control.revoke([result.id for result in results[1:]])
    assert project.messages() == 0
    with pytest.raises(TaskRevokedError):
        results[3].get(timeout=5)


def test_a_chord_is_told_of_its_revoked_part(project: Project) -> None:
    parts = [project.sign("add", 1, 1), project.sign("add", 2, 2).set(queue=NOBODY, task_id="part")]
    result = chord(parts, project.sign("total"), app=project.app).apply_async()
    assert project.messages()
    project.app.control.revoke("part")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    eventually(lambda: not project.messages(), within_s=5)


def test_whoever_waits_for_what_expired_in_the_queue_is_told(project: Project) -> None:
    short = {"qos": {"tenant": "acme", "ttl_ms": 300}}
    # More than one sweep finds at once.
    results = [project.sign("add", number, 1).apply_async(queue=NOBODY, headers=short) for number in range(130)]
    with pytest.raises(TaskRevokedError):
        results[0].get(timeout=10)
    eventually(lambda: all(result.state == "REVOKED" for result in results), within_s=10)
    parts = [project.sign("add", 1, 1), project.sign("add", 2, 2).set(queue=NOBODY, headers=short)]
    result = chord(parts, project.sign("total"), app=project.app).apply_async()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    eventually(lambda: not project.messages(), within_s=5)


def test_a_running_task_can_be_terminated(project: Project, tmp_path: Path) -> None:
    result = project.sign("hold", str(tmp_path), "endless").apply_async()
    eventually((tmp_path / "began").exists, within_s=10)
    project.app.control.revoke(result.id, terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    eventually(lambda: not project.messages(), within_s=5)


def test_nothing_of_the_order_is_in_the_way_of_those_who_read_list_lengths(project: Project, held: Any) -> None:
    """Exporters and Flower send LLEN for each queue name and each of Kombu's priority steps."""
    waiting = [project.sign("add", 1, number).apply_async(queue=NOBODY, priority=number) for number in (0, 3, 9)]
    names = [
        f"{queue}{suffix}" for queue in ("celery", NOBODY) for suffix in ("", *(f"\x06\x16{n}" for n in (3, 6, 9)))
    ]
    assert {project.broker.client.llen(name) for name in names} == {0}
    with project.app.connection_for_read() as connection:
        assert connection.default_channel._size(NOBODY) == 3
    project.app.control.revoke([result.id for result in waiting])


def test_flower_shows_the_worker_its_queue_and_its_tasks(project: Project) -> None:
    port = free_port()
    env = {"COMPAT_REDIS_URL": project.broker.url, "FLOWER_UNAUTHENTICATED_API": "true"}
    arguments = ("flower", "--address=127.0.0.1", f"--port={port}")

    def page(path: str) -> str:
        with suppress(URLError), urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
        return ""

    with celery(*arguments, app="tests.support.compat_app", env=env, ready="Connected to ") as flower:
        worker = eventually(lambda: json.loads(page("/api/workers?refresh=1") or "{}").get("prefork@compat"), 20)
        assert [queue["name"] for queue in worker["active_queues"]] == ["celery"]
        assert worker["stats"]["pool"]["max-concurrency"] == 2
        result = project.sign("add", 20, 22).apply_async()
        assert result.get(timeout=10) == 42
        task = eventually(lambda: json.loads(page(f"/api/task/info/{result.id}") or "{}"), 10)
        assert (task["name"], task["worker"]) == ("add", "prefork@compat")
        assert [queue["name"] for queue in json.loads(page("/api/queues/length"))["active_queues"]] == ["celery"]
        assert "celery" in page("/broker")
        eventually(lambda: 'flower_worker_online{worker="prefork@compat"} 1.0' in page("/metrics"), within_s=10)
        assert not flower.said("WRONGTYPE")

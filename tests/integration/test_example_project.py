"""Does the example project do what its page promises: two tenants, one order, tasks that know nothing of it?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.celery_processes import REPOSITORY, TcpBroker, celery, tcp_broker
from tests.support.eventually import eventually

TESTS = REPOSITORY / "tests"
PROJECT = TESTS / "example_project"
PAGE = REPOSITORY / "docs" / "howto" / "adopt-in-a-celery-project.md"

# Basic reports first, then a vip one, then plain Celery tasks with Celery's own priorities: 0 is served first.
CLIENT = """
import json, sys
from example_project.tasks import tidy
from example_project.tenants import order_report
folder = sys.argv[1]
sent = [order_report("zenith", f"zenith {number}", folder) for number in range(3)]
sent.append(order_report("acme", "acme 0", folder))
tidy.apply_async((folder,), priority=9)
tidy.apply_async((folder,), priority=0)
print("sent", flush=True)
if len(sys.argv) > 2:
    print(json.dumps([result.get(timeout=20) for result in sent]))
"""


@pytest.fixture
def broker() -> Iterator[TcpBroker]:
    with tcp_broker() as started:
        yield started


def test_a_vip_tenant_s_report_is_written_before_what_was_sent_earlier(broker: TcpBroker, tmp_path: Path) -> None:
    env = {"REPORTS_REDIS_URL": broker.url}
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path), "wait"],
        cwd=TESTS,
        env=env | {"PYTHONPATH": f"{TESTS}:{REPOSITORY}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == "sent\n"
        with celery(
            "worker", "-c", "1", "-l", "INFO", app="example_project.app", env=env, ready=" ready.", folder=TESTS
        ):
            results = json.loads(client.stdout.readline())
            written = eventually(lambda: _six((tmp_path / "written").read_text().splitlines()), within_s=10)
    assert results == ["zenith 0 is done", "zenith 1 is done", "zenith 2 is done", "acme 0 is done"]
    assert set(written[:2]) == {"acme 0", "tidy"}
    assert [line for line in written if line.startswith("zenith")] == ["zenith 0", "zenith 1", "zenith 2"]


def test_the_page_shows_the_project_as_it_is() -> None:
    page = PAGE.read_text("utf-8")
    shown = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert set(shown) == {"app.py", "tasks.py", "tenants.py"}
    for name, code in shown.items():
        assert (PROJECT / name).read_text("utf-8") == code


def _six(lines: list[str]) -> list[str]:
    return lines if len(lines) == 6 else []

"""Does `qosqueue watchdog list` show people what was done, and scripts the whole record?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from qosqueue.commands import watchdog
from qosqueue.service.watchdog import WatchdogRun

RUNS = [
    WatchdogRun("reap", 1_795_399_200_000, 1_549, {}),
    WatchdogRun(
        "reap", 1_795_399_199_000, 12_345, {"requeued": ["a", "b"], "expired": ["c"], "dead": [], "fences": [1, 2]}
    ),
    WatchdogRun("age", 1_795_399_198_000, 100, {"relegated": [], "pools": {}}),
    WatchdogRun("age", 1_795_399_197_000, 100, {"relegated": ["d", "e"], "pools": {"m": {"slots": 4, "spare": 1}}}),
    WatchdogRun("reap", 1_795_399_196_000, 100, {"error": "StoreUnavailable: away"}),
]


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def open_running() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(watchdog=SimpleNamespace(runs=lambda limit: RUNS[:limit]))

    monkeypatch.setattr(watchdog, "open_running", open_running)


def listed(*arguments: str) -> str:
    done = CliRunner().invoke(watchdog.app, ["list", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_people_get_counts_and_milliseconds() -> None:
    heading, *rows = [line.split(maxsplit=3) for line in listed().splitlines()]
    assert heading == ["started", "task", "duration_ms", "outcome"]
    assert [(row[2], row[3]) for row in rows] == [
        ("1.5", "-"),
        ("12.3", "requeued 2, expired 1"),
        ("0.1", "-"),
        ("0.1", "relegated 2, pools 1"),
        ("0.1", "failed: StoreUnavailable: away"),
    ]


def test_acted_leaves_out_what_did_nothing_before_it_counts() -> None:
    lines = listed("--acted", "--limit", "2").splitlines()
    assert [line.split(maxsplit=3)[3] for line in lines[1:]] == ["requeued 2, expired 1", "relegated 2, pools 1"]


def test_scripts_get_the_record() -> None:
    assert [run["duration_us"] for run in json.loads(listed("--json"))] == [run.duration_us for run in RUNS]
    assert [run["outcome"] for run in json.loads(listed("--acted", "--json"))] == [
        RUNS[place].outcome for place in (1, 3, 4)
    ]

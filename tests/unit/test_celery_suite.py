"""Does the run of Celery's own tests tell what is new from what is known, and hear of every outcome?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.celery_suite.expected import Difference, differences
from scripts.celery_suite.running import STARTUP, Module, Result
from scripts.celery_suite.suites import SUITES
from scripts.celery_suite.summary import as_json, judge, lines

DIFFERENT = [
    Difference("kombu", ("t/test_a.py::test_inside",), "looks inside", sometimes=False),
    Difference("celery", ("t/test_b.py::test_race[2]",), "a race", sometimes=True),
]

TESTS = """
import pytest

def test_passes(): pass
def test_fails(): assert False, "because"
def test_skipped(): pytest.skip("not here")
@pytest.mark.xfail
def test_expected(): assert False
@pytest.fixture
def broken(): raise OSError("no fixture")
def test_error(broken): pass
"""


def result(suite: str, test: str, outcome: str) -> Module:
    return Module(suite, test.partition("::")[0], [Result(suite, test, outcome, 0.1, "why")])


def test_only_what_is_not_in_the_list_is_broken() -> None:
    verdict = judge(
        [
            result("kombu", "t/test_a.py::test_inside[None]", "failed"),
            result("kombu", "t/test_a.py::test_inside[other]", "passed"),
            result("celery", "t/test_a.py::test_inside", "failed"),
            result("celery", "t/test_b.py::test_race[1]", "failed"),
            result("celery", "t/test_b.py::test_race[2]", "passed"),
        ],
        DIFFERENT,
    )
    assert [(each.suite, each.test) for each in verdict.broken] == [
        ("celery", "t/test_a.py::test_inside"),
        ("celery", "t/test_b.py::test_race[1]"),
    ]
    assert [each.test for each, _ in verdict.known] == ["t/test_a.py::test_inside[None]"]
    assert [each.test for each in verdict.repaired] == ["t/test_a.py::test_inside[other]"]
    assert as_json(verdict)["suites"]["celery"] == {"passed": 1, "failed": 2, "skipped": 0, "xfailed": 0}
    assert "failed:" in lines(verdict)


def test_the_list_names_suites_that_there_are() -> None:
    names = {suite.name for suite in SUITES}
    assert {difference.suite for difference in differences()} <= names
    assert all(difference.reason and difference.tests for difference in differences())


def test_every_outcome_is_reported(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    report = tmp_path / "report"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "celery_suite_report", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(STARTUP), "CELERY_SUITE_REPORT": str(report)},
        capture_output=True,
        check=False,
    )
    first, *tests = map(json.loads, report.read_text().splitlines())
    assert first == {"collected": 5}
    assert {each["test"].partition("::")[2]: (each["outcome"], each["message"]) for each in tests} == {
        "test_passes": ("passed", ""),
        "test_fails": ("failed", "AssertionError: because"),
        "test_skipped": ("skipped", "Skipped: not here"),
        "test_expected": ("xfailed", "assert False"),
        "test_error": ("failed", "OSError: no fixture"),
    }

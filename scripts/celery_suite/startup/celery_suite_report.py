"""What became of each test? A pytest plugin that writes one JSON line for each to the file CELERY_SUITE_REPORT."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest


class Report:
    """Collects the phases of a test and tells its outcome once: the last try counts if it was run again."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the session)
        self._told: dict[str, tuple[str, str]] = {}
        self._seconds: dict[str, float] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """How many tests there are."""
        self._write(collected=len(session.items))

    def pytest_collectreport(self, report: Any) -> None:
        """A module that cannot be imported fails as a whole."""
        if report.failed:
            self._write(test=report.nodeid, outcome="failed", seconds=0.0, message=_last_line(report))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of a test: setup, call or teardown. Subtests' own reports add nothing to their test's."""
        if type(report).__name__ == "SubtestReport" and report.outcome != "failed":
            return
        test = report.nodeid
        self._seconds[test] = self._seconds.get(test, 0.0) + report.duration
        if report.outcome == "rerun":
            self._told.pop(test, None)
        elif report.failed:
            self._told[test] = ("failed", _last_line(report))
        elif report.skipped:
            self._told.setdefault(test, ("xfailed" if hasattr(report, "wasxfail") else "skipped", _last_line(report)))
        elif report.when == "call":
            self._told.setdefault(test, ("passed", ""))
        if report.when == "teardown" and test in self._told:
            outcome, message = self._told.pop(test)
            self._write(test=test, outcome=outcome, seconds=round(self._seconds.pop(test), 2), message=message)

    def pytest_unconfigure(self) -> None:
        """The end of the session."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write(json.dumps(fields) + "\n")
        self._file.flush()


def pytest_configure(config: pytest.Config) -> None:
    """Register the report."""
    if path := os.environ.get("CELERY_SUITE_REPORT"):
        config.pluginmanager.register(Report(path), "celery-suite-report")


def _last_line(report: Any) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "")
    lines = [line for line in text.split("\n") if line.strip()]
    return lines[0][:300] if lines else ""

"""How is the run told: a table by module, what failed and why, one JSON object?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from rich import box
from rich.table import Table

from scripts.celery_suite.expected import Difference
from scripts.celery_suite.running import Module, Result

OUTCOMES = ("passed", "failed", "skipped", "xfailed")


@dataclass(frozen=True)
class Verdict:
    """What the results mean. `broken` are failures that nobody expected, `repaired` expected ones that passed."""

    modules: Sequence[Module]
    broken: list[Result]
    known: list[tuple[Result, Difference]]
    repaired: list[Result]


def judge(modules: Sequence[Module], different: Sequence[Difference]) -> Verdict:
    """Compare the results with the list of known differences."""
    broken, known, repaired = [], [], []
    for result in (result for module in modules for result in module.results):
        difference = next((each for each in different if each.covers(result.suite, result.test)), None)
        if result.outcome == "failed":
            if difference is None:
                broken.append(result)
            else:
                known.append((result, difference))
        elif result.outcome == "passed" and difference is not None and not difference.sometimes:
            repaired.append(result)
    return Verdict(modules, broken, known, repaired)


def table(verdict: Verdict) -> Table:
    """One line for each module, and one for each suite together."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("module", no_wrap=True)
    for title in (*OUTCOMES[:2], "known", *OUTCOMES[2:], "s"):
        shown.add_column(title, justify="right", no_wrap=True)
    known = Counter(result.test for result, _ in verdict.known)
    for suite in dict.fromkeys(module.suite for module in verdict.modules):
        of_suite = [module for module in verdict.modules if module.suite == suite]
        for module in of_suite:
            shown.add_row(f"{suite} {PurePath(module.path).stem}", *_cells(module.results, known))
        shown.add_section()
        everything = [result for module in of_suite for result in module.results]
        shown.add_row(f"{suite} together", *_cells(everything, known), end_section=True)
    return shown


def lines(verdict: Verdict) -> list[str]:
    """What failed, test by test."""
    told = []
    if verdict.known:
        told.append("known differences (docs/celery-compatibility.md):")
        told += [f"  {result.test}" for result, _ in verdict.known]
    if verdict.repaired:
        told.append("in the list of differences, but passed:")
        told += [f"  {result.test}" for result in verdict.repaired]
    if verdict.broken:
        told.append("failed:")
        told += [f"  {result.test}\n    {result.message}" for result in verdict.broken]
    return told


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Everything that the table and the lines say."""
    results = [result for module in verdict.modules for result in module.results]
    return {
        "suites": {
            suite: _counts([result for result in results if result.suite == suite])
            for suite in dict.fromkeys(result.suite for result in results)
        },
        "failed": [asdict(result) for result in verdict.broken],
        "known": [asdict(result) | {"reason": difference.reason} for result, difference in verdict.known],
        "repaired": [result.test for result in verdict.repaired],
        "tests": [asdict(result) for result in results],
    }


def _counts(results: Sequence[Result]) -> dict[str, int]:
    counted = Counter(result.outcome for result in results)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def _cells(results: Sequence[Result], known: Counter[str]) -> list[str]:
    counts = _counts(results)
    expected = sum(1 for result in results if result.outcome == "failed" and result.test in known)
    seconds = sum(result.seconds for result in results)
    numbers = [counts["passed"], counts["failed"] - expected, expected, counts["skipped"], counts["xfailed"]]
    return [*(str(number) if number else "–" for number in numbers), f"{seconds:.0f}"]

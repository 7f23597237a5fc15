"""Write the list of known differences in docs/celery-compatibility.md from different.toml."""

from __future__ import annotations

import sys

from scripts.celery_suite.expected import differences
from scripts.generated_block import ROOT, run

NAME = "celery differences"
PAGE = ROOT / "docs" / "celery-compatibility.md"


def table() -> str:
    """One line for each test."""
    lines = ["| project | test | why |", "|---|---|---|"]
    for difference in differences():
        when = "now and then: " if difference.sometimes else ""
        for test in difference.tests:
            _, _, name = test.partition("::")
            lines.append(f"| {difference.suite} | `{name}` | {when}{difference.reason} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(NAME, {PAGE: table()}, __doc__))

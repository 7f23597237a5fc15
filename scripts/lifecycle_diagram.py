"""Draw the lifecycle of a job in docs/design/lifecycle.md from the table in qosqueue/policy/lifecycle.py."""

from __future__ import annotations

import sys

from qosqueue.policy.lifecycle import TERMINAL, TRANSITIONS, JobStatus
from scripts.generated_block import ROOT, run

PAGE = ROOT / "docs" / "design" / "lifecycle.md"
NAME = "lifecycle"


def diagram() -> str:
    """The table as a Mermaid state diagram in a Markdown fence."""
    moves = [
        f"    {source} --> {target}: {event}" for source, row in TRANSITIONS.items() for event, target in row.items()
    ]
    ends = [f"    {status} --> [*]" for status in JobStatus if status in TERMINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {JobStatus.ACCEPTED}", *moves, *ends, "```"])


if __name__ == "__main__":
    sys.exit(run(NAME, {PAGE: diagram()}, __doc__))

"""On which machine and which commit was a figure measured?"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
WRITTEN = ("docs/results.md", "docs/results.json", "docs/pictures")


def machine() -> str:
    """One line for a person: cores this process may use, processor, system, Python. No host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores, {_processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def commit() -> str:
    """Short hash of the checked-out commit, with `-dirty` if tracked files were changed; `unknown` without git.

    What a benchmark writes itself is no change of what it measures.
    """
    try:
        told = _git("rev-parse", "--short", "HEAD")
        changed = _git("diff", "--quiet", "HEAD", "--", ".", *(f":!{path}" for path in WRITTEN))
    except FileNotFoundError:
        return "unknown"
    if told.returncode:
        return "unknown"
    return told.stdout.strip() + ("-dirty" if changed.returncode else "")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except FileNotFoundError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"

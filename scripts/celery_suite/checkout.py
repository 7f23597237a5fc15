"""Where do the tests of others come from? From the source distributions on the package index, into a cache folder.

The suite has a virtual environment of its own: its tools never meet those of this repository.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from qosqueue.errors import QosqueueError
from scripts.bench.machine import REPOSITORY
from scripts.celery_suite.suites import SUITES, Suite

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CONSTRAINTS = REPOSITORY / "constraints.txt"

Tell = Callable[[str], None]


def environment(cache: Path, tell: Tell) -> Path:
    """The Python of the suite's environment, made or renewed if what it must hold has changed."""
    python = cache / "venv" / "bin" / "python"
    stamp = cache / "venv" / "installed"
    wanted = _digest(REQUIREMENTS, CONSTRAINTS)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    tell(f"making an environment in {cache / 'venv'} (about two minutes)")
    shutil.rmtree(cache / "venv", ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(cache / "venv")], "the environment could not be made")
    # Wheels where there are any; the tests' tools include one that exists as source only.
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
    _run([*install, "-r", str(REQUIREMENTS), "-e", str(REPOSITORY)], "the tests' tools could not be installed")
    stamp.write_text(wanted)
    return python


def sources(suite: Suite, cache: Path, python: Path, tell: Tell) -> Path:
    """The unpacked source distribution of a suite's project."""
    folder = cache / f"{suite.project}-{suite.version}"
    if folder.exists():
        return folder
    tell(f"fetching the tests of {suite.project} {suite.version}")
    command = [
        *(str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
        *("-d", str(cache), f"{suite.project}=={suite.version}"),
    ]
    _run(command, f"the source distribution of {suite.project} could not be fetched")
    unpacked = cache / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(cache / f"{suite.project}-{suite.version}.tar.gz") as archive:
        archive.extractall(unpacked, filter="data")
    (unpacked / folder.name).rename(folder)
    unpacked.rmdir()
    return folder


def check_versions(python: Path) -> None:
    """Raise QosqueueError unless the installed projects are those whose tests are run."""
    wanted = [f"{suite.project} {suite.version}" for suite in SUITES]
    code = "; ".join(
        ["import celery, kombu", "print('celery', celery.__version__)", "print('kombu', kombu.__version__)"]
    )
    installed = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    if missing := [each for each in wanted if each not in installed]:
        raise QosqueueError(f"the tests are of {', '.join(missing)}, but another version is installed")


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.split("\n") if line.strip() and not line.startswith("WARNING")]
        raise QosqueueError(f"{failure}: {' / '.join(lines[:3]) or f'exit code {done.returncode}'}")

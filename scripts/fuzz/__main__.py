"""Does the API keep its word under requests that nobody thought of? Schemathesis against a running `qosqueue up`.

`make test-fuzz`: all checks, with authentication, over the tenants' document and the operators'; the exit code is 1 if
one fails, or if a part of qosqueue wrote a traceback into its log. Schemathesis lives in an environment of its own, for
its dependencies are not ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from qosqueue.errors import QosqueueError
from qosqueue.ops.first_run import ADMIN_NAME
from qosqueue.policy.terms import Tier
from scripts.demo.system import Site, environment, running
from scripts.fuzz.models import add_models, naming_models

# A model's name made at random is of none, so nothing gets past it: the second run names one that is there.
RUNS = {"tenants": "/openapi.json", "models": "/openapi.json", "operators": "/v1/admin/openapi.json"}
CONFIG = Path(__file__).parent / "schemathesis.toml"
# How long an answer takes says more of a busy machine than of the API.
LONGEST_ANSWER_S = 60


def main(given: Sequence[str] | None = None) -> int:
    """The exit code: 0 if every check held."""
    options = _options(given)
    try:
        with running("qos", add_models) as site:
            failed = [name for name in options.only if _fuzz(site, name, options)]
            traces = _tracebacks(site.home)
    except QosqueueError as error:
        print(f"make test-fuzz: {error}", file=sys.stderr)
        return 1
    for trace in traces:
        print(f"== {trace}", file=sys.stderr)
    print(f"== checks failed in: {', '.join(failed) or 'none'}; tracebacks in the logs: {len(traces)}", file=sys.stderr)
    return int(bool(failed or traces))


def _options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--schemathesis", default="schemathesis", help="the program")
    parser.add_argument("--examples", type=int, default=100, help="requests of each kind to each operation, at most")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other requests")
    parser.add_argument("--only", choices=RUNS, action="append", help="one of the runs; may be given again")
    options = parser.parse_args(given)
    options.only = options.only or [*RUNS]
    return options


def _fuzz(site: Site, name: str, options: argparse.Namespace) -> int:
    """Schemathesis' own exit code; its progress and its findings go to stdout."""
    told = document_of(site, name)
    document = site.home / f"{name}.json"
    document.write_text(json.dumps(naming_models(told) if name == "models" else told))
    token = admin_token(site) if name == "operators" else site.keys[Tier.STANDARD]
    print(f"== {name}: {RUNS[name]}", file=sys.stderr, flush=True)
    command = [options.schemathesis, "--config-file", str(CONFIG), "run", str(document), "--url", _url(site)]
    command += ["--header", f"Authorization: Bearer {token}", "--checks", "all", "--continue-on-failure"]
    command += ["--max-examples", str(options.examples), "--seed", str(options.seed)]
    if name == "models":
        # What that document narrows is no word of the API's: what breaks it may be taken.
        command += ["--mode", "positive"]
    command += ["--request-timeout", str(LONGEST_ANSWER_S), "--max-response-time", str(LONGEST_ANSWER_S)]
    command += ["--generation-database", "none"]
    return subprocess.run(command, check=False, cwd=site.home).returncode


def _url(site: Site) -> str:
    return f"http://{site.host}:{site.port}"


def document_of(site: Site, name: str) -> dict[str, Any]:
    """The document that a run goes by."""
    with urlopen(f"{_url(site)}{RUNS[name]}") as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def admin_token(site: Site) -> str:
    """A token of the administrator that every new home has. Raises QosqueueError."""
    made = subprocess.run(
        [sys.executable, "-m", "qosqueue.cli", "user", "token", ADMIN_NAME],
        env=environment(os.environ, site.home, "qos"),
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise QosqueueError(f"no token: {made.stderr.strip()}")
    return made.stdout.strip()


def _tracebacks(home: Path) -> list[str]:
    """Where a traceback begins in a log, and what it ended with: also what no answer tells."""
    found = []
    for log in sorted(home.glob("logs/*.log")):
        lines = log.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("Traceback "):
                ends = (later for later in lines[number + 1 :] if later and not later.startswith(" "))
                found.append(f"{log.name}:{number + 1}: {next(ends, 'cut off')}")
    return found


if __name__ == "__main__":
    sys.exit(main())

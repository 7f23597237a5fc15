"""`qosqueue doctor`: can it run here?"""

from __future__ import annotations

from dataclasses import asdict

import typer

from qosqueue.commands.output import JsonOption, print_json
from qosqueue.ops.doctor import Verdict, examine
from qosqueue.settings import load_settings


def doctor(json: JsonOption = False) -> None:
    """Check Python, state folder, broker, database, models, port and GPU; one fix per finding; 1 if any fails."""
    findings = examine(load_settings())
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            fix = f"; fix: {finding.fix}" if finding.fix else ""
            print(f"{finding.verdict:<5} {finding.check:<9} {finding.text}{fix}")
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(1)

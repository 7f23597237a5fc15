"""`qosqueue watchdog …`: sweep now, or see what the last sweeps did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running
from qosqueue.service.watchdog import WatchdogRun

app = typer.Typer(help="The tasks that reap, expire and age.", no_args_is_help=True)

COLUMNS = ("started_ms", "task", "duration_us", "outcome")


@app.command()
def run(json: JsonOption = False) -> None:
    """Sweep once now, besides the sweeps that beat starts, and show what was done."""
    with open_running() as services:
        runs = [services.watchdog.reap(), services.watchdog.age()]
    _show(runs, json)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many, the newest first")] = 20,
    json: JsonOption = False,
) -> None:
    """List the last runs."""
    with open_running() as services:
        runs = services.watchdog.runs(limit)
    _show(runs, json)


def _show(runs: Sequence[WatchdogRun], json: bool) -> None:
    rows = [asdict(run) for run in runs]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)

"""`qosqueue watchdog …`: sweep now, or see what the last sweeps did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running
from qosqueue.service.watchdog import KEEP_IDLE_RUNS, KEEP_RUNS, WatchdogRun

app = typer.Typer(help="The tasks that reap, expire, age and queue again.", no_args_is_help=True)

COLUMNS = ("started_ms", "task", "duration_ms", "outcome")
# It goes with `requeued` and counts nothing of its own.
NO_COUNT = "fences"


@app.command()
def run(json: JsonOption = False) -> None:
    """Sweep once now, besides the sweeps that beat starts, and show what was done."""
    with open_running() as services:
        watchdog = services.watchdog
        runs = [watchdog.reap(), watchdog.age(), watchdog.learn(), watchdog.reconcile()]
    _show(runs, json)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many, the newest first")] = 20,
    acted: Annotated[bool, typer.Option("--acted", help="only runs that did something, or failed")] = False,
    json: JsonOption = False,
) -> None:
    """List the last runs."""
    with open_running() as services:
        # Of those that did nothing the record keeps few: all fit beside those that did.
        runs = services.watchdog.runs(KEEP_RUNS + KEEP_IDLE_RUNS if acted else limit)
    _show([run for run in runs if not acted or any(run.outcome.values())][:limit], json)


def _show(runs: Sequence[WatchdogRun], json: bool) -> None:
    if json:
        print_json([asdict(run) for run in runs])
    else:
        print_table([_row(run) for run in runs], COLUMNS)


def _row(run: WatchdogRun) -> dict[str, Any]:
    return asdict(run) | {"duration_ms": f"{run.duration_us / 1000:.1f}", "outcome": _in_words(run.outcome)}


def _in_words(outcome: dict[str, Any]) -> str:
    """How many of each kind, as `requeued 2, expired 1`; a dash for nothing; of a failed run, why."""
    if "error" in outcome:
        return f"failed: {outcome['error']}"
    words = [f"{what} {len(done)}" for what, done in outcome.items() if done and what != NO_COUNT]
    return ", ".join(words) or "-"

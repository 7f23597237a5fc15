"""`qosqueue worker …`: run a worker, or see which run."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

import typer

from qosqueue.broker.replicas import LiveReplica
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running
from qosqueue.settings import load_settings

app = typer.Typer(help="Processes that host replicas of models.", no_args_is_help=True)

COLUMNS = ("worker", "model", "state", "slots", "busy", "gpu", "pid", "started_ms", "seen_ms_ago")


# Its own --help would hide the worker's options: all arguments, --help too, go to the worker.
@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def run(context: typer.Context) -> None:
    """Run one more worker for this home in the foreground; further arguments go to it as they are."""
    load_settings()
    os.execv(sys.executable, [sys.executable, "-m", "qosqueue_workers", *context.args])


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the replicas that gave a sign of life lately."""
    with open_running() as services:
        rows = [_row(live) for live in services.queues.replicas()]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


def _row(live: LiveReplica) -> dict[str, Any]:
    row = asdict(live)
    replica: dict[str, Any] = row.pop("replica")
    return replica | row

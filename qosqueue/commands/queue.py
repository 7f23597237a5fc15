"""`qosqueue queue …`: what waits, and for how long?"""

from __future__ import annotations

from dataclasses import asdict

import typer

from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running

app = typer.Typer(help="The lanes of the queue.", no_args_is_help=True)

COLUMNS = ("lane", "depth", "oldest_wait_ms", "in_flight", "relegated", "batch", "later")


@app.callback()
def queue() -> None:
    """The lanes of the queue."""


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the lanes: how many wait, the oldest wait, how many run.

    Of those that wait: `relegated` can no longer start in time, `batch` waits for idle slots, `later` for its ETA.
    """
    with open_running() as services:
        rows = [asdict(lane) for lane in services.queues.lanes()]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)

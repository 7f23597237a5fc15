"""`qosqueue audit …`: who changed what?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import open_services
from qosqueue.commands.output import JsonOption, print_json, print_table

app = typer.Typer(help="Who changed what, and when.", no_args_is_help=True)

COLUMNS = ("id", "changed_ms", "actor", "action", "subject", "before", "after")


@app.callback()
def audit() -> None:
    """Who changed what, and when."""


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many, the newest first")] = 20,
    json: JsonOption = False,
) -> None:
    """List the newest changes."""
    with open_services() as services:
        rows = [asdict(entry) for entry in services.audit.list(limit)]
    if json:
        print_json(rows)
    else:
        # The table shows an instant in UTC if its name says that it is one.
        print_table([row | {"changed_ms": row["at_ms"]} for row in rows], COLUMNS)

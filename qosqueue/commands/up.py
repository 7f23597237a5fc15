"""`qosqueue up`: serve until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer

from qosqueue.ops.up import run
from qosqueue.settings import load_settings


def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: QOSQUEUE_HOST or 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one (default: QOSQUEUE_PORT or 8080)."),
    ] = None,
    demo_data: Annotated[
        bool, typer.Option("--demo-data/--no-demo-data", help="Make three demo tenants if there is no tenant yet.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON instead of `ready`.")] = False,
) -> None:
    """Start broker, worker, beat and web server; print `ready http://…` on stdout; serve until Ctrl-C.

    A process that dies is started again. The state (database, queue, logs) is in QOSQUEUE_HOME and is found by the
    next start.
    """
    given: dict[str, object] = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    run(settings, demo_data=demo_data, as_json=as_json)

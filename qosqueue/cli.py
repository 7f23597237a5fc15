"""What can be done from a shell? The command `qosqueue` and its sub-commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from qosqueue import __version__
from qosqueue.commands import (
    audit,
    breaker,
    doctor,
    job,
    key,
    model,
    override,
    policy,
    queue,
    tenant,
    up,
    usage,
    user,
    watchdog,
    webhook,
    worker,
)
from qosqueue.errors import QosqueueError

app = typer.Typer(
    name="qosqueue",
    help="Quality of service in front of model inference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("doctor")(doctor.doctor)
app.command("usage")(usage.usage)
for name, group in (
    ("tenant", tenant.app),
    ("key", key.app),
    ("model", model.app),
    ("policy", policy.app),
    ("override", override.app),
    ("scenario", override.scenarios),
    ("user", user.app),
    ("queue", queue.app),
    ("job", job.app),
    ("breaker", breaker.app),
    ("worker", worker.app),
    ("watchdog", watchdog.app),
    ("webhook", webhook.app),
    ("audit", audit.app),
):
    app.add_typer(group, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qosqueue {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Quality of service in front of model inference."""


def main() -> None:
    """Run the command line: exit code 0, 1 with one line on stderr if it failed, 2 for wrong usage."""
    try:
        app()
    except QosqueueError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

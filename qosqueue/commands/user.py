"""`qosqueue user …`: let somebody into the admin pages."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor, open_services
from qosqueue.commands.output import JsonOption, print_json
from qosqueue.store.records import Role

app = typer.Typer(help="Who may log in to the admin pages.", no_args_is_help=True)


@app.callback()
def user() -> None:
    """Who may log in to the admin pages."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="1 to 64 letters, digits, '.', '_', '-', '@'")],
    role: Annotated[str, typer.Option(metavar="admin|operator|viewer", help="what the user may do")] = Role.VIEWER,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="read it from stdin, not a prompt")] = False,
    json: JsonOption = False,
) -> None:
    """Let somebody in. The password is asked for, never an argument: arguments are seen by all on the machine."""
    with open_services() as services:
        if password_stdin:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        made = services.users.create_user(name, password, role, actor())
    if json:
        print_json(asdict(made))
    else:
        print(f"user {made.name} ({made.id}) is {made.role}")

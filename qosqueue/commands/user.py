"""`qosqueue user …`: let somebody into the admin pages, and programs into the admin API."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.store.records import Role

app = typer.Typer(help="Who may log in to the admin pages.", no_args_is_help=True)

TOKEN_COLUMNS = ("id", "user", "prefix", "created_ms", "revoked_ms")


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


@app.command()
def token(name: Annotated[str, typer.Argument(help="name of the user")], json: JsonOption = False) -> None:
    """Make a token with which a program acts for a user in the admin API. It is shown once."""
    with open_services() as services:
        made = services.user_tokens.create(name, actor=actor())
    if json:
        print_json(asdict(made))
    else:
        print(made.token)


@app.command()
def tokens(json: JsonOption = False) -> None:
    """List tokens by their first characters, revoked ones too."""
    with open_services() as services:
        rows = [asdict(one) for one in services.user_tokens.list()]
    if json:
        print_json(rows)
    else:
        print_table(rows, TOKEN_COLUMNS)


@app.command("revoke-token")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="the token's id")], json: JsonOption = False
) -> None:
    """End a token, at once everywhere."""
    with open_services() as services:
        services.user_tokens.revoke(token_id, actor=actor())
    if json:
        print_json({"revoked": token_id})
    else:
        print(f"revoked {token_id}")

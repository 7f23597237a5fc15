"""`qosqueue key …`: make, list and revoke tenants' API keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table

app = typer.Typer(help="Tenants' API keys.", no_args_is_help=True)

COLUMNS = ("id", "tenant", "prefix", "created_ms", "revoked_ms")


@app.command()
def create(tenant: Annotated[str, typer.Option(help="name or id of the tenant")], json: JsonOption = False) -> None:
    """Make a key. It is shown once: the record keeps only its hash."""
    with open_services() as services:
        made = services.accounts.create_key(tenant, actor=actor())
    if json:
        print_json(asdict(made))
    else:
        print(made.key)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="only of this tenant (name or id)")] = None,
    json: JsonOption = False,
) -> None:
    """List keys by their first characters, revoked ones too."""
    with open_services() as services:
        names = {owner.id: owner.name for owner in services.accounts.list_tenants()}
        rows = [asdict(key) | {"tenant": names[key.tenant_id]} for key in services.accounts.list_keys(tenant)]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="the key's id")], json: JsonOption = False) -> None:
    """End a key, within two seconds everywhere."""
    with open_services() as services:
        revoked = services.accounts.revoke_key(key_id, actor=actor())
    if json:
        print_json(asdict(revoked))
    else:
        print(f"revoked {revoked.id} ({revoked.prefix}…)")

"""`qosqueue webhook …`: where tenants are told of events."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.service.webhook_events import EVENT_TYPES

app = typer.Typer(help="Where tenants are told of events.", no_args_is_help=True)

COLUMNS = ("id", "tenant", "name", "url", "event_types", "enabled", "disabled_reason", "created_ms")


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="where events are sent")],
    tenant: Annotated[str, typer.Option(help="name or id of the tenant")],
    event: Annotated[list[str] | None, typer.Option(help="an event to tell of; may be repeated (all)")] = None,
    name: Annotated[str, typer.Option(help="what people call it")] = "webhook",
    json: JsonOption = False,
) -> None:
    """Add an endpoint. Its signing secret is shown once: it is not kept, and nothing shows it again."""
    with open_services() as services:
        owner = services.accounts.get_tenant(tenant)
        made, secret = services.webhooks.add(
            owner.id, name=name, url=url, event_types=event or list(EVENT_TYPES), actor=actor()
        )
    if json:
        print_json(asdict(made) | {"signing_secret": secret})
    else:
        print(secret)
        print(f"added {made.id}", file=sys.stderr)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="only of this tenant (name or id)")] = None,
    json: JsonOption = False,
) -> None:
    """List endpoints, disabled ones too."""
    with open_services() as services:
        tenant_id = None if tenant is None else services.accounts.get_tenant(tenant).id
        names = {owner.id: owner.name for owner in services.accounts.list_tenants()}
        rows = [asdict(each) | {"tenant": names[each.tenant_id]} for each in services.webhooks.list(tenant_id)]
    if json:
        print_json(rows)
    else:
        print_table([row | {"event_types": ",".join(row["event_types"])} for row in rows], COLUMNS)


@app.command()
def remove(
    endpoint_id: Annotated[str, typer.Argument(metavar="ID", help="the endpoint's id")], json: JsonOption = False
) -> None:
    """Remove an endpoint, with what was still to be sent to it."""
    with open_services() as services:
        gone = services.webhooks.remove(None, endpoint_id, actor=actor())
    if json:
        print_json({"removed": gone.id})
    else:
        print(f"removed {gone.id}")

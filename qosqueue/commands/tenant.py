"""`qosqueue tenant …`: make, list and change tenants."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import USAGE, actor, failure, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.service.tenant_fields import CLEARABLE
from qosqueue.store.records import Tenant

app = typer.Typer(help="Who is billed and treated fairly.", no_args_is_help=True)

COLUMNS = (
    "name",
    "id",
    "tier",
    "weight",
    "online_target_ms",
    "success_target_percent",
    "requests_per_minute",
    "tokens_per_minute",
    "organisation",
    "contracted_percent",
    "max_running",
    "enabled",
)

TierText = Annotated[str, typer.Option("--tier", metavar="vip|standard|basic", help="the tenant's class")]
NewTier = Annotated[str | None, typer.Option("--tier", metavar="vip|standard|basic", help="the tenant's class")]
Weight = Annotated[
    int | None, typer.Option(help="1-1000, else the tier's; of twice as much an excess costs half the place")
]
OnlineTarget = Annotated[int | None, typer.Option(help="first answer of online requests within so many ms")]
SuccessTarget = Annotated[int | None, typer.Option(help="percent of requests that must succeed in time")]
Requests = Annotated[int | None, typer.Option(help="limit of requests a minute")]
Tokens = Annotated[int | None, typer.Option(help="limit of tokens a minute")]
Organisation = Annotated[str | None, typer.Option(help="tenants of one organisation count as one in the order")]
Contracted = Annotated[
    int | None,
    typer.Option(help="percent of each pool that it may claim without losing place; all come to 100 at most"),
]
MaxRunning = Annotated[int | None, typer.Option(help="at most so many of its requests run at once; 0 lets none begin")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="1 to 64 letters, digits, '.', '_', '-' or spaces")],
    tier: TierText,
    weight: Weight = None,
    online_target_ms: OnlineTarget = None,
    success_target_percent: SuccessTarget = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    organisation: Organisation = None,
    contracted_percent: Contracted = None,
    max_running: MaxRunning = None,
    json: JsonOption = False,
) -> None:
    """Make a tenant."""
    with open_services() as services:
        tenant = services.accounts.create_tenant(
            name,
            tier,
            actor=actor(),
            weight=weight,
            online_target_ms=online_target_ms,
            success_target_percent=success_target_percent,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            organisation=organisation,
            contracted_percent=contracted_percent,
            max_running=max_running,
        )
    _show(tenant, json)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List all tenants, disabled ones too."""
    with open_services() as services:
        rows = [asdict(tenant) for tenant in services.accounts.list_tenants()]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


@app.command()
def update(
    tenant: Annotated[str, typer.Argument(help="name or id")],
    name: Annotated[str | None, typer.Option(help="a new name")] = None,
    tier: NewTier = None,
    weight: Weight = None,
    online_target_ms: OnlineTarget = None,
    success_target_percent: SuccessTarget = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    organisation: Organisation = None,
    contracted_percent: Contracted = None,
    max_running: MaxRunning = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="whether its keys work")] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help=f"take away one of {', '.join(CLEARABLE)}; repeatable"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Change a tenant; what is not named stays."""
    given = {
        "name": name,
        "tier": tier,
        "weight": weight,
        "online_target_ms": online_target_ms,
        "success_target_percent": success_target_percent,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "organisation": organisation,
        "contracted_percent": contracted_percent,
        "max_running": max_running,
        "enabled": enabled,
    }
    changes: dict[str, object] = {field: value for field, value in given.items() if value is not None}
    for field in clear or []:
        if field not in CLEARABLE:
            raise failure(f"--clear: expected one of {', '.join(CLEARABLE)}, got {field!r}", USAGE)
        if field in changes:
            raise failure(f"{field}: expected a new value or --clear, got both", USAGE)
        changes[field] = None
    if not changes:
        raise failure("tenant update: expected at least one field to change, got none", USAGE)
    with open_services() as services:
        changed = services.accounts.update_tenant(tenant, actor=actor(), **changes)
    _show(changed, json)


def _show(tenant: Tenant, json: bool) -> None:
    if json:
        print_json(asdict(tenant))
    else:
        print_table([asdict(tenant)], COLUMNS)

"""`qosqueue tenant …`: make, list and change tenants."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from qosqueue.commands.context import USAGE, actor, failure, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.tenant_options import (
    Clear,
    Contracted,
    ErrorBudget,
    GpuSecondsPerDay,
    HighTarget,
    LowTarget,
    MaxInFlight,
    MaxQueued,
    MaxRunning,
    MediumTarget,
    NewTier,
    OnLateText,
    OnlineTarget,
    Organisation,
    Requests,
    Road,
    SuccessTarget,
    TierText,
    Tokens,
    TokensPerDay,
    Weight,
    Why,
    cleared,
    steps,
)
from qosqueue.service.tenant_fields import CHANGEABLE, CLEARABLE
from qosqueue.store.records import Tenant

app = typer.Typer(help="Who is billed and treated fairly.", no_args_is_help=True)

ALWAYS_SHOWN = (
    *("name", "id", "tier", "weight", "online_target_ms", "success_target_percent", "requests_per_minute"),
    *("tokens_per_minute", "organisation", "contracted_percent", "max_running"),
)
# The others are a column only where a tenant has one.
SHOWN_IF_SET = tuple(name for name in CLEARABLE if name not in ALWAYS_SHOWN)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="1 to 64 letters, digits, '.', '_', '-' or spaces")],
    tier: TierText,
    weight: Weight = None,
    online_target_ms: OnlineTarget = None,
    high_target_ms: HighTarget = None,
    medium_target_ms: MediumTarget = None,
    low_target_ms: LowTarget = None,
    success_target_percent: SuccessTarget = None,
    error_budget_per_10k: ErrorBudget = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    tokens_per_day: TokensPerDay = None,
    gpu_seconds_per_day: GpuSecondsPerDay = None,
    max_in_flight: MaxInFlight = None,
    max_queued: MaxQueued = None,
    organisation: Organisation = None,
    contracted_percent: Contracted = None,
    max_running: MaxRunning = None,
    on_late: OnLateText = None,
    road: Road = None,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Make a tenant."""
    given = _given(locals())
    with open_services() as services:
        tenant = services.accounts.create_tenant(given.pop("name"), given.pop("tier"), actor=actor(), why=why, **given)
    _show([tenant], json, one=True)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List all tenants, disabled ones too."""
    with open_services() as services:
        tenants = services.accounts.list_tenants()
    _show(tenants, json)


@app.command()
def update(
    tenant: Annotated[str, typer.Argument(help="name or id")],
    name: Annotated[str | None, typer.Option(help="a new name")] = None,
    tier: NewTier = None,
    weight: Weight = None,
    online_target_ms: OnlineTarget = None,
    high_target_ms: HighTarget = None,
    medium_target_ms: MediumTarget = None,
    low_target_ms: LowTarget = None,
    success_target_percent: SuccessTarget = None,
    error_budget_per_10k: ErrorBudget = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    tokens_per_day: TokensPerDay = None,
    gpu_seconds_per_day: GpuSecondsPerDay = None,
    max_in_flight: MaxInFlight = None,
    max_queued: MaxQueued = None,
    organisation: Organisation = None,
    contracted_percent: Contracted = None,
    max_running: MaxRunning = None,
    on_late: OnLateText = None,
    road: Road = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="whether its keys work")] = None,
    clear: Clear = None,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Change a tenant; what is not named stays."""
    changes = _given(locals())
    changes |= cleared(clear, changes, CLEARABLE)
    if not changes:
        raise failure("tenant update: expected at least one field to change, got none", USAGE)
    with open_services() as services:
        changed = services.accounts.update_tenant(tenant, actor=actor(), why=why, **changes)
    _show([changed], json, one=True)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a tenant among a command's options that were given."""
    given = {name: options[name] for name in CHANGEABLE if options.get(name) is not None}
    return given | ({"road": steps(given["road"])} if "road" in given else {})


def _show(tenants: list[Tenant], json: bool, *, one: bool = False) -> None:
    rows = [asdict(tenant) for tenant in tenants]
    if json:
        print_json(rows[0] if one else rows)
        return
    said = [name for name in SHOWN_IF_SET if any(row[name] is not None for row in rows)]
    from_file = ["source"] if any(row["source"] == "file" for row in rows) else []
    print_table(rows, (*ALWAYS_SHOWN, *said, *from_file, "enabled"))

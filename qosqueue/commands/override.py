"""`qosqueue override …` and `qosqueue scenario …`: limits, targets and learned budgets for a model or a task type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from qosqueue.commands.context import USAGE, RecordServices, actor, failure, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.tenant_options import (
    Clear,
    ErrorBudget,
    GpuSecondsPerDay,
    HighTarget,
    LowTarget,
    MaxInFlight,
    MaxQueued,
    MediumTarget,
    OnLateText,
    OnlineTarget,
    Requests,
    Road,
    SuccessTarget,
    Tokens,
    TokensPerDay,
    Why,
    cleared,
    steps,
)
from qosqueue.service.tenant_fields import OVERRIDABLE

app = typer.Typer(help="Limits and targets of their own for a model, a task type or both.", no_args_is_help=True)
scenarios = typer.Typer(help="Learned start budgets of a tenant's requests to a model.", no_args_is_help=True)

TenantOption = Annotated[str | None, typer.Option("--tenant", help="name or id; without it each tenant")]
ModelOption = Annotated[str | None, typer.Option("--model", help="requests to this model")]
TaskOption = Annotated[str | None, typer.Option("--task-type", metavar="online|async|batch", help="such requests")]
BOUNDS = ("lower_ms", "upper_ms")
ABOUT_COLUMNS = ("tenant", "model", "task_type")
SCENARIO_COLUMNS = (*ABOUT_COLUMNS, "budget_ms", "observed", "lower_ms", "upper_ms", "source")


@app.command("set")
def set_(
    tenant: TenantOption = None,
    model: ModelOption = None,
    task_type: TaskOption = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    tokens_per_day: TokensPerDay = None,
    gpu_seconds_per_day: GpuSecondsPerDay = None,
    max_in_flight: MaxInFlight = None,
    max_queued: MaxQueued = None,
    online_target_ms: OnlineTarget = None,
    high_target_ms: HighTarget = None,
    medium_target_ms: MediumTarget = None,
    low_target_ms: LowTarget = None,
    success_target_percent: SuccessTarget = None,
    error_budget_per_10k: ErrorBudget = None,
    on_late: OnLateText = None,
    road: Road = None,
    clear: Clear = None,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Set what holds for these requests in place of the tenant's own; what is not named stays."""
    given = {name: value for name, value in locals().items() if name in OVERRIDABLE and value is not None}
    values = (given | ({"road": steps(road)} if road is not None else {})) | cleared(clear, given, OVERRIDABLE)
    if not values:
        raise failure("override set: expected at least one field to change, got none", USAGE)
    with open_services() as services:
        about = _about(services, tenant, model, task_type)
        services.policies.set_override(about, values, actor=actor(), why=why or f"override of {_in_words(about)}")
        rows = _overrides(services)
    _show(rows, json)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List all overrides; an empty tenant is each tenant."""
    with open_services() as services:
        rows = _overrides(services)
    _show(rows, json)


@app.command("clear")
def clear_(
    tenant: TenantOption = None,
    model: ModelOption = None,
    task_type: TaskOption = None,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Take an override away."""
    with open_services() as services:
        about = _about(services, tenant, model, task_type)
        told = why or f"override of {_in_words(about)} taken away"
        nothing = dict.fromkeys(OVERRIDABLE)
        services.policies.set_override(about, nothing, actor=actor(), why=told)
        rows = _overrides(services)
    _show(rows, json)


@scenarios.command("list")
def list_scenarios(json: JsonOption = False) -> None:
    """List what was learned: requests without a budget get `budget_ms`, never beyond the bounds."""
    with open_services() as services:
        names = {each.id: each.name for each in services.accounts.list_tenants()}
        rows = [asdict(each) | {"tenant": names[each.tenant_id]} for each in services.agreements.scenarios()]
    if json:
        print_json(rows)
    else:
        print_table(rows, SCENARIO_COLUMNS)


@scenarios.command()
def bound(
    tenant: Annotated[str, typer.Option(help="name or id")],
    model: Annotated[str, typer.Option(help="requests to this model")],
    task_type: Annotated[str, typer.Option(metavar="online|async|batch", help="such requests")],
    lower_ms: Annotated[int | None, typer.Option(help="never learn less")] = None,
    upper_ms: Annotated[int | None, typer.Option(help="never learn more")] = None,
    clear: Annotated[
        list[str] | None, typer.Option(metavar="BOUND", help="take away lower_ms or upper_ms; repeatable")
    ] = None,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Set the bounds of a learned budget; without any they are half and twice the default of tier and task type."""
    given = {"lower_ms": lower_ms, "upper_ms": upper_ms}
    values: dict[str, int | None] = {name: value for name, value in given.items() if value is not None}
    values |= cleared(clear, values, BOUNDS)
    if not values:
        raise failure("scenario bound: expected --lower-ms, --upper-ms or --clear, got none", USAGE)
    with open_services() as services:
        about = _about(services, tenant, model, task_type)
        outcome = services.policies.bound_scenario(
            about, values, actor=actor(), why=why or f"bounds of {_in_words(about)}"
        )
    if json:
        print_json(asdict(outcome))
    else:
        print(f"version {outcome.version} holds")


def _about(services: RecordServices, tenant: str | None, model: str | None, task_type: str | None) -> dict[str, str]:
    """The three that are named, the tenant by its name."""
    name = None if tenant is None else services.accounts.get_tenant(tenant).name
    given = {"tenant": name, "model": model, "task_type": task_type}
    return {field: value for field, value in given.items() if value is not None}


def _overrides(services: RecordServices) -> list[dict[str, Any]]:
    names = {each.id: each.name for each in services.accounts.list_tenants()}
    return [asdict(each) | {"tenant": names.get(each.tenant_id or "")} for each in services.agreements.overrides()]


def _show(rows: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json(rows)
        return
    said = [name for name in OVERRIDABLE if any(row[name] is not None for row in rows)]
    print_table(rows, (*ABOUT_COLUMNS, *said, "source"))


def _in_words(about: Mapping[str, str]) -> str:
    return ", ".join(about.values()) or "nothing"

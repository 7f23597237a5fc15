"""`qosqueue queue …`: what waits, for how long, how much may run at once, and what was given up?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running, tenant_names
from qosqueue.errors import InvalidField, NotFound
from qosqueue.policy.reference.limits import tenant_limit
from qosqueue.service.fields import one_of
from qosqueue.service.limits import LimitView, limit_name
from qosqueue.wiring import Services

app = typer.Typer(help="The lanes of the queue, their limits and the dead letters.", no_args_is_help=True)

COLUMNS = ("lane", "depth", "oldest_wait_ms", "in_flight", "relegated", "batch", "later", "dead")
LIMIT_COLUMNS = ("name", "tenant", "lane", "model", "most", "until_ms", "running")
DEAD_COLUMNS = ("task", "tag", "lane", "model", "tenant", "attempts", "died_ms", "why")

Name = Annotated[
    str | None,
    typer.Argument(help="t:TENANT, c:TIER, l:LANE, m:MODEL or p:LENGTH OF LANE:LANE:MODEL; or use the options"),
]
Lane = Annotated[str | None, typer.Option(help="the limit of this lane; with --model of this lane on that model")]
ModelName = Annotated[str | None, typer.Option("--model", help="the limit of this model")]
TenantName = Annotated[str | None, typer.Option("--tenant", help="the limit of this tenant (name or id)")]


@app.callback()
def queue() -> None:
    """The lanes of the queue, their limits and the dead letters."""


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the lanes: how many wait, the oldest wait, how many run.

    Of those that wait: `relegated` can no longer start in time, `batch` waits for idle slots, `later` for its ETA.
    `dead` are kept aside after their last attempt.
    """
    with open_running() as services:
        rows = [asdict(lane) for lane in services.queues.lanes()]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


@app.command()
def limit(
    most: Annotated[int, typer.Option(help="let at most so many run at once; 0 pauses")],
    name: Name = None,
    lane: Lane = None,
    model: ModelName = None,
    tenant: TenantName = None,
    for_s: Annotated[int | None, typer.Option(help="for so many seconds; else until it is changed")] = None,
    json: JsonOption = False,
) -> None:
    """Limit what runs at once under a name, from now on and for what is queued too; what runs goes on.

    `--lane basic.heavy --most 0` pauses a lane. A tenant's cap for good is `qosqueue tenant update --max-running`; here
    it takes another one for a time.
    """
    with open_running() as services:
        named = _name(services, name, lane, model, tenant)
        view = services.limits.set(named, most, actor=actor(), for_s=for_s)
        names = tenant_names(services)
    if json:
        print_json(asdict(view))
    else:
        print_table([_row(view, names)], LIMIT_COLUMNS)


@app.command()
def limits(json: JsonOption = False) -> None:
    """List the limits in force, tenants' caps too, and how many run under each."""
    with open_running() as services:
        views = services.limits.list()
        names = tenant_names(services)
    if json:
        print_json([asdict(view) for view in views])
    else:
        print_table([_row(view, names) for view in views], LIMIT_COLUMNS)


@app.command()
def unlimit(
    name: Name = None,
    lane: Lane = None,
    model: ModelName = None,
    tenant: TenantName = None,
    json: JsonOption = False,
) -> None:
    """Take a limit away; a tenant that had another one for a time gets its own cap back."""
    with open_running() as services:
        named = _name(services, name, lane, model, tenant)
        services.limits.lift(named, actor=actor())
    if json:
        print_json({"lifted": named})
    else:
        print(f"lifted {named}")


@app.command()
def dead(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many, the last to die first")] = 100,
    json: JsonOption = False,
) -> None:
    """List dead letters: what lost its worker in its last attempt, or was refused by one.

    `qosqueue job replay` queues one again, `qosqueue job discard` and `qosqueue queue discard` forget them. A task that
    was sent more than once may have several: the tag tells them apart.
    """
    with open_running() as services:
        letters = services.dead_letters.list(limit)
        names = tenant_names(services)
    if json:
        print_json([asdict(letter) for letter in letters])
    else:
        rows = [asdict(letter) | {"tenant": names.get(letter.tenant, letter.tenant)} for letter in letters]
        print_table(rows, DEAD_COLUMNS)


@app.command()
def discard(
    older_than_days: Annotated[int, typer.Option(min=0, help="those that died so many days ago or before; 0: all")],
    json: JsonOption = False,
) -> None:
    """Forget old dead letters for good: they are kept, with their payloads, until somebody does."""
    with open_running() as services:
        discarded = services.dead_letters.discard_older(older_than_days, actor=actor())
    if json:
        print_json({"discarded": discarded})
    else:
        print(f"discarded: {discarded}")


@app.command()
def purge(
    lane: Annotated[str, typer.Argument(help="whose waiting requests end, e.g. basic.heavy")],
    why: Annotated[str, typer.Option(help="why; their tenants are told, too")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for the lane's name once more")] = False,
    json: JsonOption = False,
) -> None:
    """End all that waits in a lane, for good: jobs are cancelled, and what they held of quotas is given back.

    What runs goes on, and what comes meanwhile stays. It goes on in slices, with a line on stderr after each; what has
    ended when it is interrupted stays so.
    """
    with open_running() as services:
        slices = services.purges.purge(lane, actor=actor(), why=why)
        at = next(slices)
        if at.left and not yes:
            typed = typer.prompt(f"{at.left} requests wait in {lane}. Type its name to end them", err=True)
            if typed != lane:
                raise InvalidField("lane", lane, typed)
        for at in slices:
            print(f"{lane}: {at.ended} ended, {at.left} to go", file=sys.stderr)
    if json:
        print_json({"lane": lane, "ended": at.ended})
    else:
        print(f"ended: {at.ended}")


def _name(services: Services, name: str | None, lane: str | None, model: str | None, tenant: str | None) -> str:
    """The name that was given, or made from options, which must name something that exists."""
    if name is not None:
        if lane is not None or model is not None or tenant is not None:
            raise InvalidField("name", "a name or options, not both", name)
        return name
    if lane is not None:
        lanes = [view.lane for view in services.queues.lanes()]
        if lane not in lanes:
            raise InvalidField("lane", one_of(lanes), lane)
    if model is not None and model not in {each.name for each in services.catalog.list_models()}:
        raise NotFound(f"no model {model!r}")
    tenant_id = None if tenant is None else services.accounts.get_tenant(tenant).id
    return limit_name(lane=lane, model=model, tenant=tenant_id)


def _row(view: LimitView, tenants: dict[str, str]) -> dict[str, object]:
    if view.tenant is None:
        return asdict(view)
    # Both as a person types them.
    tenant = tenants.get(view.tenant, view.tenant)
    return asdict(view) | {"tenant": tenant, "name": tenant_limit(tenant)}

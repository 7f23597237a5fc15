"""`qosqueue usage`: who used how much of which model, on which day?"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from qosqueue.commands.context import open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.errors import InvalidField
from qosqueue.store.usage import FIGURES, UsageRecord

COLUMNS = ("day", "tenant", "model", *FIGURES)
DAYS = 30

Day = Annotated[str | None, typer.Option(help="a day in UTC, as 2026-01-31")]


def usage(
    tenant: Annotated[str | None, typer.Option(help="only of this tenant (name or id)")] = None,
    since: Day = None,
    until: Day = None,
    json: JsonOption = False,
) -> None:
    """List what was used by day, tenant and model: requests that were served, tokens, and ms of a slot.

    The last 30 days without --since. Each request counts once, on the day on which it ended, whatever was tried again.
    """
    with open_services() as services:
        first = _day("since", since) or datetime.now(UTC).date() - timedelta(days=DAYS - 1)
        last = _day("until", until)
        tenant_id = None if tenant is None else services.accounts.get_tenant(tenant).id
        used = UsageRecord(services.store).list(
            since=first.isoformat(), until="" if last is None else last.isoformat(), tenant_id=tenant_id
        )
        names = {each.id: each.name for each in services.accounts.list_tenants()}
    rows = [asdict(each) | {"tenant": names.get(each.tenant_id, each.tenant_id)} for each in used]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


def _day(field: str, value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise InvalidField(field, "a day as 2026-01-31", value) from None

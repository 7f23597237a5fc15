"""What of a tenant can be given on the command line, and how does each option say what it means?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import typer

from qosqueue.commands.context import USAGE, failure
from qosqueue.service.tenant_fields import CLEARABLE

TierText = Annotated[str, typer.Option("--tier", metavar="vip|standard|basic", help="the tenant's class")]
NewTier = Annotated[str | None, typer.Option("--tier", metavar="vip|standard|basic", help="the tenant's class")]
Weight = Annotated[
    int | None, typer.Option(help="1-1000, else the tier's; of twice as much an excess costs half the place")
]
OnlineTarget = Annotated[int | None, typer.Option(help="first answer of online requests within so many ms")]
HighTarget = Annotated[
    int | None, typer.Option(help="agreed for latency class high: an answer begins within so many ms")
]
MediumTarget = Annotated[int | None, typer.Option(help="the same for latency class medium")]
LowTarget = Annotated[int | None, typer.Option(help="the same for latency class low")]
SuccessTarget = Annotated[int | None, typer.Option(help="percent of requests that must succeed in time")]
ErrorBudget = Annotated[int | None, typer.Option(help="of 10,000 requests so many may miss what was agreed")]
Requests = Annotated[int | None, typer.Option(help="limit of requests a minute")]
Tokens = Annotated[int | None, typer.Option(help="limit of tokens a minute")]
TokensPerDay = Annotated[int | None, typer.Option(help="budget of tokens a day")]
GpuSecondsPerDay = Annotated[int | None, typer.Option(help="budget of GPU-seconds a day")]
MaxInFlight = Annotated[int | None, typer.Option(help="at most so many requests accepted and not ended")]
MaxQueued = Annotated[int | None, typer.Option(help="at most so many requests wait")]
OnLateText = Annotated[
    str | None,
    typer.Option("--on-late", metavar="reject|defer|downgrade", help="what is done with what would start too late"),
]
Road = Annotated[
    str | None,
    typer.Option(metavar="STEPS", help="when things go wrong, in this order: retry,fallback,degrade,defer,reject"),
]
Organisation = Annotated[str | None, typer.Option(help="tenants of one organisation count as one in the order")]
Contracted = Annotated[
    int | None,
    typer.Option(help="percent of each pool that it may claim without losing place; all come to 100 at most"),
]
MaxRunning = Annotated[int | None, typer.Option(help="at most so many of its requests run at once; 0 lets none begin")]
Clear = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD", help=f"take away one of {', '.join(CLEARABLE)}; repeatable"),
]
Why = Annotated[str | None, typer.Option(help="the reason, kept with the version of the policy")]


def steps(road: str) -> list[str]:
    """The steps that a text names, by commas."""
    return [step.strip() for step in road.split(",")]


def cleared(clear: list[str] | None, given: Mapping[str, object], allowed: Iterable[str]) -> dict[str, None]:
    """The fields to take away; ends the command for one that cannot be, or that was also given."""
    for field in clear or []:
        if field not in allowed:
            raise failure(f"--clear: expected one of {', '.join(allowed)}, got {field!r}", USAGE)
        if field in given:
            raise failure(f"{field}: expected a new value or --clear, got both", USAGE)
    return dict.fromkeys(clear or [])

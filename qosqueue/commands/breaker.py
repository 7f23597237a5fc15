"""`qosqueue breaker …`: which models and replicas are let no work, and how is that changed?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running
from qosqueue.errors import InvalidField
from qosqueue.policy.breaker import model_breaker, replica_breaker
from qosqueue.service.breakers import BreakerView

app = typer.Typer(help="Breakers of models and of replicas.", no_args_is_help=True)

COLUMNS = ("name", "model", "worker", "state", "score", "until_ms")

Name = Annotated[str | None, typer.Argument(help="a name as `breaker list` shows it; or use the options")]
ModelName = Annotated[str | None, typer.Option("--model", help="the breaker of this model")]
WorkerName = Annotated[str | None, typer.Option("--worker", help="with --model: that of this worker's replica")]


@app.callback()
def breaker() -> None:
    """Breakers of models and of replicas."""


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the breakers of all models, and of the replicas that are not closed.

    `score` grows by three with each fault and falls by one with each service; at fifteen a breaker opens.
    """
    with open_running() as services:
        _print(services.breakers.list(), json)


@app.command()
def trip(
    name: Name = None,
    model: ModelName = None,
    worker: WorkerName = None,
    for_s: Annotated[int | None, typer.Option(help="for so many seconds; else until it is reset")] = None,
    json: JsonOption = False,
) -> None:
    """Let a model (or one replica of it) take no more work: requests get 503, or its fallback. What runs goes on."""
    with open_running() as services:
        _print([services.breakers.trip(_name(name, model, worker), actor=actor(), for_s=for_s)], json)


@app.command()
def reset(name: Name = None, model: ModelName = None, worker: WorkerName = None, json: JsonOption = False) -> None:
    """Close a breaker, and count its faults from none."""
    with open_running() as services:
        _print([services.breakers.reset(_name(name, model, worker), actor=actor())], json)


def _print(views: list[BreakerView], json: bool) -> None:
    rows = [asdict(view) for view in views]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


def _name(name: str | None, model: str | None, worker: str | None) -> str:
    if name is not None and model is None and worker is None:
        return name
    if name is None and model is not None:
        return model_breaker(model) if worker is None else replica_breaker(worker, model)
    raise InvalidField("name", "a name, --model, or --model and --worker", name)

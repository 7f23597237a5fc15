"""`qosqueue model …`: list and add the models that may be asked for."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import Annotated, Any

import typer

from qosqueue.commands.context import actor, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.errors import InvalidField

app = typer.Typer(help="The models that may be asked for.", no_args_is_help=True)

COLUMNS = ("name", "engine", "weight_class", "memory_bytes", "context_tokens", "slots", "enabled")


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List all models, disabled ones too."""
    with open_services() as services:
        rows = [asdict(model) for model in services.catalog.list_models()]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="what requests call it")],
    engine: Annotated[str, typer.Option(help="what runs it, e.g. llama.cpp")],
    memory_bytes: Annotated[int, typer.Option(help="memory of one replica")],
    context_tokens: Annotated[int, typer.Option(help="longest prompt and answer together")],
    slots: Annotated[int, typer.Option(help="requests that one replica runs at once")] = 1,
    weight_class: Annotated[
        str | None, typer.Option(metavar="light|medium|heavy", help="else computed from the memory")
    ] = None,
    options: Annotated[str, typer.Option(metavar="JSON", help="an object for the engine")] = "{}",
    enabled: Annotated[bool, typer.Option("--enable/--disable", help="whether it may be asked for")] = True,
    json: JsonOption = False,
) -> None:
    """Add a model."""
    with open_services() as services:
        model = services.catalog.add_model(
            name,
            engine,
            actor=actor(),
            memory_bytes=memory_bytes,
            context_tokens=context_tokens,
            slots=slots,
            weight_class=weight_class,
            options=_parsed(options),
            enabled=enabled,
        )
    if json:
        print_json(asdict(model))
    else:
        print_table([asdict(model)], COLUMNS)


def _parsed(options: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json_text.loads(options)
    except ValueError as error:
        raise InvalidField("options", f"a JSON object ({error})", options) from error
    return parsed

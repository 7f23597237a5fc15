"""`qosqueue model …`: list, add, change and remove the models that may be asked for."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import Annotated, Any

import typer

from qosqueue.commands.context import USAGE, actor, failure, open_services
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.tenant_options import Why, cleared
from qosqueue.errors import InvalidField
from qosqueue.ops.parts import model_fault
from qosqueue.policy.weight import Weighed, WeightBasis, in_words
from qosqueue.service.catalog import CLEARABLE
from qosqueue.settings import load_settings
from qosqueue.store.records import Model

app = typer.Typer(help="The models that may be asked for.", no_args_is_help=True)

COLUMNS = ("name", "engine", "weight_class", "weight_basis", "memory_bytes", "context_tokens", "slots", "enabled")

Memory = Annotated[int | None, typer.Option(help="memory of one replica, in bytes")]
Parameters = Annotated[int | None, typer.Option(help="how many it has: two bytes each, where no memory is given")]
Measured = Annotated[int | None, typer.Option(help="what one step of it was measured to take")]
WeightClassText = Annotated[
    str | None, typer.Option("--weight-class", metavar="light|medium|heavy", help="else computed")
]
Fallback = Annotated[str | None, typer.Option(help="the model that answers when this one cannot")]
Prewarm = Annotated[
    str | None,
    typer.Option(metavar="RULE", help="never, always, queued:N or daily:HH:MM-HH:MM; nothing acts on it yet"),
]


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
    context_tokens: Annotated[int, typer.Option(help="longest prompt and answer together")],
    memory_bytes: Memory = None,
    slots: Annotated[int, typer.Option(help="requests that one replica runs at once")] = 1,
    parameters: Parameters = None,
    measured_ms: Measured = None,
    weight_class: WeightClassText = None,
    fallback_model: Fallback = None,
    prewarm: Prewarm = None,
    options: Annotated[str, typer.Option(metavar="JSON", help="an object for the engine")] = "{}",
    enabled: Annotated[bool, typer.Option("--enable/--disable", help="whether it may be asked for")] = True,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Add a model; the next worker that starts takes it in. Tells what its weight class comes from."""
    if memory_bytes is None and parameters is None:
        raise failure("memory_bytes: expected it, or --parameters to estimate it, got nothing", USAGE)
    with open_services() as services:
        model = services.catalog.add_model(
            name,
            engine,
            actor=actor(),
            why=why,
            memory_bytes=memory_bytes or 0,
            context_tokens=context_tokens,
            slots=slots,
            parameters=parameters,
            measured_ms=measured_ms,
            weight_class=weight_class,
            fallback_model=fallback_model,
            prewarm=prewarm,
            options=_parsed(options),
            enabled=enabled,
            approve=require_engine,
        )
    _show(model, json)


@app.command()
def update(
    name: Annotated[str, typer.Argument(help="what requests call it")],
    memory_bytes: Memory = None,
    context_tokens: Annotated[int | None, typer.Option(help="longest prompt and answer together")] = None,
    slots: Annotated[int | None, typer.Option(help="requests that one replica runs at once")] = None,
    parameters: Parameters = None,
    measured_ms: Measured = None,
    weight_class: WeightClassText = None,
    fallback_model: Fallback = None,
    prewarm: Prewarm = None,
    options: Annotated[str | None, typer.Option(metavar="JSON", help="an object for the engine, all of it")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="whether it may be asked for")] = None,
    clear: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help=f"take away one of {', '.join(CLEARABLE)}; repeatable")
    ] = None,
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Change a model; what is not named stays. Workers that run keep what they loaded until their next start."""
    given: dict[str, object] = {
        "memory_bytes": memory_bytes,
        "context_tokens": context_tokens,
        "slots": slots,
        "parameters": parameters,
        "measured_ms": measured_ms,
        "weight_class": weight_class,
        "fallback_model": fallback_model,
        "prewarm": prewarm,
        "enabled": enabled,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    changes |= cleared(clear, changes, CLEARABLE)
    with open_services() as services:
        if options is not None:
            changes["options"] = _parsed(options)
        if not changes:
            raise failure("model update: expected at least one field to change, got none", USAGE)
        model = services.catalog.update_model(name, actor=actor(), why=why, approve=require_engine, **changes)
    _show(model, json)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="what requests call it")], json: JsonOption = False) -> None:
    """Take a model out of the catalog; jobs that name it stay on record."""
    with open_services() as services:
        model = services.catalog.remove_model(name, actor=actor())
    if json:
        print_json(asdict(model))
    else:
        print(f"removed {model.name}")


def _show(model: Model, json: bool) -> None:
    if json:
        print_json(asdict(model))
    else:
        print_table([asdict(model)], COLUMNS)
        weighed = Weighed(model.weight_class, WeightBasis(model.weight_basis or "given"))
        print(in_words(weighed, model.memory_bytes, model.parameters, model.measured_ms))


def require_engine(model: Model) -> None:
    """End the command for a model that no engine takes. Its files may be on another host: `--check` looks for them."""
    fault = model_fault(load_settings(), model)
    if fault is not None:
        raise failure(fault, USAGE)


def _parsed(options: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json_text.loads(options)
    except ValueError as error:
        raise InvalidField("options", f"a JSON object ({error})", options) from error
    return parsed

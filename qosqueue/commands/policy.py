"""`qosqueue policy …`: the whole policy as a file, what a file would change, its versions, and back to one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from qosqueue.commands.context import FAILED, USAGE, RecordServices, actor, failure, open_services
from qosqueue.commands.model import require_engine
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.errors import InvalidField, InvalidPolicy
from qosqueue.policy.document import Difference, Document, faults, with_file
from qosqueue.service import policy_file
from qosqueue.service.policies import Outcome
from qosqueue.store.records import PolicyVersion

app = typer.Typer(help="The policy as a whole: file, versions, overrides.", no_args_is_help=True)

EMPTY: Document = {"tenants": {}, "models": {}, "overrides": [], "scenarios": []}
COLUMNS = ("version", "changed_ms", "actor", "source", "why")
DIFFERENCE_COLUMNS = ("key", "before", "after")

FileArgument = Annotated[Path, typer.Argument(help="a policy.toml; - reads from stdin")]
Why = Annotated[str | None, typer.Option(help="the reason, kept with the version")]


@app.command()
def export(
    version: Annotated[int | None, typer.Option(help="an old version; else what holds now")] = None,
    json: JsonOption = False,
) -> None:
    """Print the policy as policy.toml: tenants, models, overrides, bounds of scenarios."""
    with _open() as services:
        policies = services.policies
        document = policies.current() if version is None else policies.document_of(version)
        text = policy_file.written(document)
    if json:
        print_json(document)
    else:
        sys.stdout.write(text)


@app.command()
def validate(
    file: FileArgument,
    alone: Annotated[
        bool, typer.Option("--alone", help="without a record: all that the file names must be in it")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Say what is wrong with a file; changes nothing."""
    with _told(json):
        document = _read(file)
        if alone:
            _hold_alone(document)
        else:
            with open_services(raise_invalid=True) as services:
                services.policies.check(document)
    if json:
        print_json({"valid": True, "faults": []})
    else:
        print("valid")


@app.command()
def diff(
    file: Annotated[Path | None, typer.Argument(help="a policy.toml; - reads from stdin")] = None,
    version: Annotated[int | None, typer.Option(help="an old version in place of a file")] = None,
    json: JsonOption = False,
) -> None:
    """Show what `apply FILE` would change, or with --version what `rollback` would; changes nothing."""
    if (file is None) == (version is None):
        raise failure("policy diff: expected a file or --version, one of them", USAGE)
    with _open(json) as services:
        if file is not None:
            differences = services.policies.check(_read(file))
        else:
            differences = services.policies.check_rollback(version or 0)
    _show_differences(differences, json)


@app.command()
def apply(file: FileArgument, why: Why = None, json: JsonOption = False) -> None:
    """Make the record say what a file says. What the file does not name stays, unless it came from a file: such
    tenants and models are disabled, such overrides and bounds taken away."""
    with _open(json) as services:
        outcome = services.policies.apply(
            _read(file), actor=actor(), why=why or f"applied {file.name or 'stdin'}", approve=require_engine
        )
    _show_outcome(outcome, json)


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(help="a number of `policy history`")],
    why: Why = None,
    json: JsonOption = False,
) -> None:
    """Make an old version hold again, as a new version. What was made since is disabled or taken away."""
    with _open(json) as services:
        outcome = services.policies.rollback(version, actor=actor(), why=why or "")
    _show_outcome(outcome, json)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many, the newest first")] = 20,
    json: JsonOption = False,
) -> None:
    """List the versions: who changed the policy, when, why, and from where (page, command or file)."""
    with open_services() as services:
        versions = services.policies.versions.list(limit)
    if json:
        print_json([_without_document(version) for version in versions])
    else:
        print_table([_row(version) for version in versions], COLUMNS)


@app.command()
def show(
    version: Annotated[int, typer.Argument(help="a number of `policy history`")], json: JsonOption = False
) -> None:
    """Show one version: who, when, why, and what it changed."""
    with open_services() as services:
        found = services.policies.versions.get(version)
        differences = services.policies.changed_in(version)
    if json:
        changed = None if differences is None else [asdict(each) for each in differences]
        print_json(asdict(found) | {"differences": changed})
        return
    print_table([_row(found)], COLUMNS)
    if differences is None:
        print("its document, or the one before, is no longer kept")
    else:
        print_table([asdict(each) for each in differences], DIFFERENCE_COLUMNS)


def _read(file: Path) -> Document:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise failure(f"{file}: expected a policy file, got {error}", FAILED) from error
    return policy_file.parse(text)


def _hold_alone(document: Document) -> None:
    found = faults(with_file(EMPTY, document), document["tenants"])
    if found:
        raise InvalidPolicy([InvalidField(fault.key, fault.expected, fault.got) for fault in found])


@contextmanager
def _open(json: bool = False) -> Iterator[RecordServices]:
    with _told(json), open_services(raise_invalid=True) as services:
        yield services


@contextmanager
def _told(json: bool) -> Iterator[None]:
    """A policy that cannot hold ends the command with a line for each fault, exit code 2."""
    try:
        yield
    except InvalidPolicy as error:
        told = [{"key": fault.field, "expected": fault.expected, "got": fault.got} for fault in error.faults]
        if json:
            print_json({"valid": False, "faults": told})
            raise typer.Exit(USAGE) from error
        raise failure(str(error).replace("\n", "\nqosqueue: "), USAGE) from error


def _show_outcome(outcome: Outcome, json: bool) -> None:
    if json:
        print_json({"version": outcome.version, "differences": [asdict(each) for each in outcome.differences]})
        return
    _show_differences(outcome.differences, json)
    print(f"version {outcome.version} holds")


def _show_differences(differences: Sequence[Difference], json: bool) -> None:
    if json:
        print_json([asdict(each) for each in differences])
    elif differences:
        print_table([asdict(each) for each in differences], DIFFERENCE_COLUMNS)
    else:
        print("nothing differs")


def _without_document(version: PolicyVersion) -> dict[str, Any]:
    return {name: value for name, value in asdict(version).items() if name != "document"}


def _row(version: PolicyVersion) -> dict[str, Any]:
    return _without_document(version) | {"version": version.number, "changed_ms": version.at_ms}

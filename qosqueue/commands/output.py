"""How does a command print what it found? As JSON for scripts, as a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

GAP = "  "

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    json.dump(value, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """One line a row under a line of headings; never wrapped or cut, so that `grep` and `cut` work on it.

    A column `*_ms` of an instant (`created_ms`, `revoked_ms`, …) is shown in UTC; what is None as a dash.
    """
    cells = [[_cell(column, row[column]) for column in columns] for row in rows]
    headings = [_heading(column) for column in columns]
    widths = [max(len(line[place]) for line in [headings, *cells]) for place in range(len(columns))]
    for line in [headings, *cells]:
        print(GAP.join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def instant_text(at_ms: int) -> str:
    """An instant (ms since the epoch) as tables show it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_instant(column: str) -> bool:
    return column.endswith(("ed_ms", "until_ms"))


def _heading(column: str) -> str:
    return column.removesuffix("_ms") if _is_instant(column) else column


def _cell(column: str, value: object) -> str:
    if value is None:
        return "-"
    if _is_instant(column) and isinstance(value, int):
        return instant_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)

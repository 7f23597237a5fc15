"""Write the table of figures in docs/results.md from docs/results.json, which `make bench-all` keeps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.bench.report import Bar
from scripts.generated_block import ROOT, run

NAME = "bench"
KEPT = ROOT / "docs" / "results.json"
PAGE = ROOT / "docs" / "results.md"
HEADINGS = (
    *("benchmark", "figure", "value (spread over the rounds)", "bar", "verdict", "beside it"),
    *("command", "machine", "date", "commit"),
)
SIGNS = {">=": "≥", "<=": "≤"}
# Always told where they were run: the usual order, the bound that no order exceeds, the same scene in simulated time,
# the reference beside the real scripts.
TOLD = ("fifo", "oracle", "simulated", "qosqueue")
REPORTED = "reported"
# Of more than so many others only the best is told.
MOST_OTHERS = 4
CAPTIONS = {
    "capacity-tried": "share of the worst tier in budget at the loads that were tried",
    "harvest-slots": "what online and batch work held of the pool",
    "harvest-real-slots": "the same on real Celery workers",
    "light-worst": "the worst metric at a load of 0.3, to that of first come, first served",
    "binding-misses": "out of budget, bound to a replica late and early",
    "prediction-reliability": "the risk that was told and the share that started late",
    "scale-size": "processor time and share in budget over the size",
    "queue-bars": "the figures of queue against their bars",
    "fastpath-bars": "the figures of fastpath against their bars",
    "overload-real-bars": "the figures of overload on real Celery workers against their bars",
    "overload-attainment": "share started in budget over the load",
    "flood-starts": "waits for the first start by tier while one tenant floods",
    "flood-real-starts": "the same on real Celery workers",
    "fairness-contracts": "each tenant's part of the pool in each minute, less its contract",
}

Record = Mapping[str, Any]


def markdown(records: Sequence[Record]) -> str:
    """The table, and the pictures under it."""
    lines = [_line(HEADINGS), "|" + "---|" * len(HEADINGS)]
    for record in records:
        where = (f"`{record['command']}`", record["machine"], record["date"], f"`{record['commit']}`")
        for cells in rows(record):
            lines.append(_line((*cells, *where)))
    pictures = [f"{record['bench']}-{name}" for record in records for name in record["pictures"]]
    lines += [f"\n![{CAPTIONS.get(name, name)}](pictures/{name}.svg)" for name in pictures]
    return "\n".join(lines)


def text(records: Sequence[Record]) -> str:
    """The same rows for a terminal."""
    told_rows = [HEADINGS[:6], *(row for record in records for row in rows(record))]
    cells = [tuple(cell.replace("`", "") for cell in row) for row in told_rows]
    widths = [max(len(row[column]) for row in cells if row[4] != REPORTED) for column in range(4)]
    lines = []
    for row in cells:
        # Padded like the others, what is only reported would push all columns far apart.
        padded = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        told = padded[:3] if row[4] == REPORTED else [*padded, row[4].ljust(8), row[5]]
        lines.append("  ".join(told).rstrip())
    return "\n".join(lines)


def rows(record: Record) -> Iterator[tuple[str, str, str, str, str, str]]:
    """A row for each figure with a bar: benchmark to `beside it`; then one for all that is only reported."""
    beside = others(record)
    reported = []
    for figure in record["figures"]:
        if figure["bar"] is None:
            reported.append(f"`{figure['name']}` {_value(figure)}")
            continue
        bar = Bar(*figure["bar"])
        limit = f"{SIGNS[bar.side]} {bar.limit:g}"
        told = _beside(beside.get(figure["name"], {}), bar.side)
        yield record["bench"], f"`{figure['name']}`", _value(figure), limit, bar.verdict(figure["value"]), told
    named = {f"{way}_{what}" for what, ways in beside.items() for way in ways}
    reported += [f"`{one['name']}` {_value(one)}" for one in record["baselines"] if one["name"] not in named]
    if reported:
        yield record["bench"], "others", "; ".join(reported), "", REPORTED, ""


def others(record: Record) -> dict[str, dict[str, float]]:
    """For each figure what the other ways reached: a baseline `way_figure` belongs to the longest name that fits."""
    names = sorted((figure["name"] for figure in record["figures"]), key=len, reverse=True)
    found: dict[str, dict[str, float]] = {}
    for baseline in record["baselines"]:
        what = next((name for name in names if baseline["name"].endswith(f"_{name}")), None)
        if what is not None:
            found.setdefault(what, {})[baseline["name"].removesuffix(f"_{what}")] = baseline["value"]
    return found


def load(path: Path = KEPT) -> list[dict[str, Any]]:
    """What is kept; nothing if there is no file yet."""
    if not path.exists():
        return []
    kept: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return kept


def merged(kept: Sequence[Record], new: Sequence[Record], order: Sequence[str]) -> list[Record]:
    """New records in place of the old ones of the same benchmarks, in an order; what it does not name comes last."""
    by_bench = {record["bench"]: record for record in [*kept, *new]}
    return [by_bench[bench] for bench in dict.fromkeys([*order, *by_bench]) if bench in by_bench]


def blocks() -> dict[Path, str]:
    """The table of the page."""
    return {PAGE: markdown(load())}


def _beside(ways: Mapping[str, float], side: str) -> str:
    told = [f"{way} {ways[way]:g}" for way in TOLD if way in ways]
    others = sorted(set(ways) - set(TOLD), key=lambda way: (-ways[way] if side == ">=" else ways[way], way))
    named = [f"{way} {ways[way]:g}" for way in others]
    told += named if len(named) <= MOST_OTHERS else [f"best other {named[0]}"]
    return ", ".join(told)


def _value(figure: Record) -> str:
    value = f"{figure['value']:g}"
    spread = "" if figure["low"] == figure["high"] else f" ({figure['low']:g}–{figure['high']:g})"
    return f"{value} {figure['unit']}".rstrip() + spread


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(run(NAME, blocks(), __doc__))

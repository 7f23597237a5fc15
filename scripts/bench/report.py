"""In what form does a benchmark tell what it measured?

Tables go to stderr, one JSON object is the last line of stdout, and each run leaves a dated text, a picture and a
record with the spreads under `out/bench/` (or where BENCH_OUT says). A figure is the median over the rounds of a run;
the spread over the rounds stands beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TextIO
from xml.sax.saxutils import escape

from qosqueue.errors import QosqueueError
from scripts.bench.machine import REPOSITORY, commit, machine

OUT = Path(os.environ.get("BENCH_OUT", REPOSITORY / "out" / "bench"))
MIN_ROUNDS = 5
SIGNIFICANT_DIGITS = 4

ROW_PX, NAME_PX, BAR_PX = 28, 260, 200


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: at least, or at most, the limit."""

    side: Literal[">=", "<="]
    limit: float

    def holds(self, value: float) -> bool:
        """Whether the value reaches the bar."""
        return value >= self.limit if self.side == ">=" else value <= self.limit

    def verdict(self, value: float) -> str:
        """Whether the value reaches it, in a word."""
        return "met" if self.holds(value) else "MISSED"


@dataclass(frozen=True)
class Figure:
    """One measured quantity: a value for each round, its unit if it is no ratio, its bar if it has one."""

    name: str
    rounds: Sequence[float]
    unit: str = ""
    bar: Bar | None = None

    @property
    def value(self) -> float:
        """Median over the rounds, to four digits."""
        return significant(statistics.median(self.rounds))

    @property
    def verdict(self) -> str:
        """Whether the bar is met, in a word."""
        return "" if self.bar is None else self.bar.verdict(self.value)


@dataclass(frozen=True)
class Report:
    """What one run measured. `baselines` are the other ways' own values, for orientation.

    `tables` are further tables for a person; `pictures` draw one more SVG each into the path they are given.
    """

    bench: str
    seed: int
    figures: Sequence[Figure]
    baselines: Sequence[Figure]
    tables: Sequence[str] = ()
    pictures: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object on the last line of stdout."""
        return {
            "bench": self.bench,
            "commit": commit(),
            "seed": self.seed,
            "machine": machine(),
            "figures": {figure.name: figure.value for figure in self.figures},
            "baselines": {figure.name: figure.value for figure in self.baselines},
        }


def arguments(bench: str, about: str, given: Sequence[str] | None) -> argparse.Namespace:
    """The arguments that all benchmarks take: rounds (at least 5), quick, seed."""
    return parser(bench, about).parse_args(given)


def parser(bench: str, about: str) -> argparse.ArgumentParser:
    """A parser of the arguments that all benchmarks take, for those that take more."""
    parser = argparse.ArgumentParser(prog=f"make bench NAME={bench}", description=about)
    parser.add_argument("--rounds", type=_rounds, default=MIN_ROUNDS, help=f"rounds of each trial (>= {MIN_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="smaller trials, and none of the very large ones")
    parser.add_argument("--seed", type=int, default=1, help="seed of whatever is random; round n uses seed + n")
    return parser


def run(measure: Callable[[], Report]) -> int:
    """Measure and publish; the exit code: 0 when it ran, whatever the figures are, else 1 with one line."""
    try:
        report = measure()
    except QosqueueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    publish(report, datetime.now().astimezone())
    return 0


def publish(
    report: Report,
    at: datetime,
    *,
    folder: Path | None = None,
    tables: TextIO | None = None,
    stdout: TextIO | None = None,
) -> None:
    """Write the report everywhere that it belongs."""
    line = json.dumps(report.as_json(), allow_nan=False)
    text = "\n".join([table(report), *(f"{one}\n" for one in report.tables)])
    folder = folder or OUT
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{at:%Y%m%d-%H%M%S}-{report.bench}"
    stem.with_suffix(".txt").write_text(f"{at.isoformat(timespec='seconds')}\n{text}{line}\n", "utf-8")
    stem.with_suffix(".json").write_text(json.dumps(record(report, at), indent=1), "utf-8")
    stem.with_suffix(".svg").write_text(picture(report), "utf-8")
    for name, draw in report.pictures.items():
        draw(stem.with_name(f"{stem.name}-{name}.svg"))
    print(text, file=tables or sys.stderr)
    print(line, file=stdout or sys.stdout, flush=True)


def record(report: Report, at: datetime) -> dict[str, Any]:
    """All that is known of a run, for a table of many runs: values with their spreads, units and bars."""
    told = report.as_json()
    return {
        **{what: told[what] for what in ("bench", "commit", "seed", "machine")},
        "date": at.date().isoformat(),
        "figures": [_recorded(figure) for figure in report.figures],
        "baselines": [_recorded(figure) for figure in report.baselines],
        "pictures": list(report.pictures),
    }


def _recorded(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "value": figure.value,
        "low": significant(min(figure.rounds)),
        "high": significant(max(figure.rounds)),
        "unit": figure.unit,
        "bar": [figure.bar.side, figure.bar.limit] if figure.bar else None,
    }


def progress(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def table(report: Report) -> str:
    """The report for a person: a row a figure, with its spread over the rounds and its bar."""
    told = report.as_json()
    lines = [
        f"{report.bench} at {told['commit']}, seed {report.seed}, {told['machine']}",
        f"{'figure':<32} {'median':>10} {'spread over the rounds':>24}  {'bar':<9} ",
    ]
    for part, figures in (("", report.figures), ("baselines", report.baselines)):
        if part and figures:
            lines.append(part)
        for figure in figures:
            low, high = significant(min(figure.rounds)), significant(max(figure.rounds))
            bar = f"{figure.bar.side} {figure.bar.limit:g}" if figure.bar else ""
            lines.append(
                f"{figure.name:<32} {figure.value:>10g} {f'{low:g} .. {high:g}':>24}  {bar:<9} "
                f"{figure.verdict or figure.unit}".rstrip()
            )
    return "\n".join(lines) + "\n"


def picture(report: Report) -> str:
    """SVG: for each figure with a bar its value against that bar (the line), with the spread over the rounds.

    Longer is worse where the bar is a maximum, better where it is a minimum; green is met, red is missed.
    """
    barred = [(figure, figure.bar) for figure in report.figures if figure.bar is not None]
    height = ROW_PX * (len(barred) + 2)
    scale_px = BAR_PX
    rows = []
    for index, (figure, bar) in enumerate(barred):
        top = ROW_PX * (index + 1)
        width, low, high = (
            round(min(value / bar.limit, 2.0) * scale_px)
            for value in (figure.value, min(figure.rounds), max(figure.rounds))
        )
        colour = "#2e7d32" if bar.holds(figure.value) else "#c62828"
        middle = top + ROW_PX // 2
        label = escape(f"{figure.name}  {figure.value:g} ({bar.side} {bar.limit:g})")
        rows.append(
            f'<text x="4" y="{middle + 4}">{label}</text>'
            f'<rect x="{NAME_PX}" y="{top + 6}" width="{width}" height="{ROW_PX - 12}" fill="{colour}"/>'
            f'<line x1="{NAME_PX + low}" y1="{middle}" x2="{NAME_PX + high}" y2="{middle}" stroke="black"/>'
        )
    edge = NAME_PX + scale_px
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{NAME_PX + 2 * scale_px + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="4" y="18">{escape(report.bench)}: value / bar (the line is the bar)</text>'
        + "".join(rows)
        + f'<line x1="{edge}" y1="{ROW_PX}" x2="{edge}" y2="{height - ROW_PX}" stroke="#555" '
        'stroke-dasharray="4 3"/></svg>\n'
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def significant(value: float) -> float:
    """The value to four significant digits."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < MIN_ROUNDS:
        raise argparse.ArgumentTypeError(f"expected a whole number from {MIN_ROUNDS}, got {text!r}")
    return int(text)

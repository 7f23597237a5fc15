"""How is a value for each rule and group shown to a person?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence


def table(title: str, columns: Sequence[str], rounds_by_row: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """One line a rule: for each column the median over the rounds, and the lowest and highest where they differ."""
    lines = [title, f"{'':<16}" + "".join(f"{column:>28}" for column in columns)]
    for row, rounds in rounds_by_row.items():
        lines.append(f"{row:<16}" + "".join(f"{_cell(values):>28}" for values in zip(*rounds, strict=True)))
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    low, median, high = (f"{value:.4g}" for value in (min(values), statistics.median(values), max(values)))
    if math.isnan(statistics.median(values)):
        return "-"
    return median if low == high else f"{median} ({low}..{high})"

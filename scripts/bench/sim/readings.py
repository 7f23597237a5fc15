"""Where do the values that each rule reaches in each round gather, and how do they become figures?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from scripts.bench.report import Bar, Figure


class Readings:
    """Values by rule and figure, one a round."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, rule: str, **values: float) -> None:
        """What a rule reached in this round."""
        for what, value in values.items():
            self._values.setdefault(rule, {}).setdefault(what, []).append(value)

    def of(self, rule: str, what: str) -> list[float]:
        """A figure of a rule over the rounds."""
        return self._values[rule][what]

    def figures(self, rule: str, bars: Mapping[str, Bar | None]) -> list[Figure]:
        """The figures that a benchmark is read at."""
        return [Figure(what, self.of(rule, what), bar=bar) for what, bar in bars.items()]

    def baselines(self, rules: Sequence[str], whats: Sequence[str]) -> list[Figure]:
        """The rivals' values of the same figures, as `rule_figure`."""
        return [Figure(f"{rule}_{what}", self.of(rule, what)) for rule in rules for what in whats]

    def table(self, title: str, rules: Sequence[str], whats: Sequence[str]) -> str:
        """One line a rule: for each figure the median over the rounds, and the lowest and highest where they differ."""
        width = max(24, *(len(what) + 2 for what in whats))
        lines = [title, f"{'':<16}" + "".join(f"{what:>{width}}" for what in whats)]
        for rule in rules:
            cells = (_cell(self._values[rule].get(what, ())) for what in whats)
            lines.append(f"{rule:<16}" + "".join(f"{cell:>{width}}" for cell in cells))
        return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, median, high = (_short(value) for value in (min(values), statistics.median(values), max(values)))
    return median if low == high else f"{median} ({low}..{high})"


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"

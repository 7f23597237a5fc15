"""What do the benchmarks of many rules tell of a round and at the end?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.bench.report import Bar, Report, progress
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.setting import Setting


def tell_round(chosen: Setting, number: int, readings: Readings, what: str) -> None:
    """One line for whoever waits: a figure of each rule in this round."""
    told = (f"{name} {readings.of(name, what)[-1]:.3f}" for name in chosen.policies)
    progress(f"{chosen.bench}, round {number} of {chosen.rounds}: {', '.join(told)}")


def told(
    chosen: Setting,
    readings: Readings,
    bars: Mapping[str, Bar],
    table: str,
    pictures: Mapping[str, Callable[[Path], None]],
) -> Report:
    """The measured rule's figures against the bars, the same of its rivals, and one table."""
    return Report(
        chosen.bench,
        chosen.seed,
        readings.figures(chosen.measured, bars),
        readings.baselines(chosen.rivals, list(bars)),
        tables=[table, *chosen.notes],
        pictures=pictures,
    )

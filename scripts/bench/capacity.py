"""How much load does a pool bear with every tier at 99 % in budget?

capacity_vs_fifo           the largest such load, to that of first come, first served
capacity_vs_best_baseline  the same to the best of the rivals
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.bench.report import Bar, Report, progress, run
from scripts.bench.sim.pictures import over_load
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import MEASURED, Setting, setting
from scripts.bench.sim.tally import by_tier
from scripts.bench.sim.work import Work

BARS = {"capacity_vs_fifo": Bar(">=", 1.25), "capacity_vs_best_baseline": Bar(">=", 1.0)}
IN_SLO = 0.99
LEAST, MOST = 8, 384  # in steps: loads from .03 to 1.5
STEP = 1 / 256
LOWEST_DRAWN = 0.8
FIFO = "fifo"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("capacity", __doc__.split("\n")[0], given, rho=1.0)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    readings = Readings()
    seen: dict[str, dict[float, float]] = {}  # of the first round: the worst tier's share at each load that was tried
    rivals = list(dict.fromkeys([*chosen.rivals, FIFO]))
    for number, seed in enumerate(chosen.seeds, 1):
        work_at = functools.lru_cache(maxsize=None)(functools.partial(_work, chosen, seed))
        loads = {
            name: capacity(functools.partial(_bears, chosen, name, work_at, seen if number == 1 else {}))
            for name in (chosen.measured, *rivals)
        }
        for name, load in loads.items():
            readings.add(name, capacity=load)
        best = max(loads[name] for name in rivals if name != MEASURED)  # with --redis the reference runs beside it
        readings.add(
            chosen.measured,
            capacity_vs_fifo=loads[chosen.measured] / loads[FIFO],
            capacity_vs_best_baseline=loads[chosen.measured] / best,
        )
        told = (f"{name} {load:.3f}" for name, load in loads.items())
        progress(f"capacity, round {number} of {chosen.rounds}: {', '.join(told)}")
    return Report(
        "capacity",
        chosen.seed,
        readings.figures(chosen.measured, {**BARS, "capacity": None}),
        readings.baselines(rivals, ["capacity"]),
        tables=[readings.table("load with every tier at 99 %", [chosen.measured, *rivals], ["capacity"])],
        pictures={"tried": lambda path: tried(path, seen, chosen.measured)},
    )


def capacity(bears: Callable[[int], bool]) -> float:
    """The largest load, in steps of 1/256, that is borne, by bisection; the least one if none is."""
    low, high = LEAST, MOST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bears(middle) else (low, middle)
    return low * STEP


def tried(path: Path, seen: Mapping[str, Mapping[float, float]], ours: str) -> None:
    """What the bisection saw on its way."""
    points = {name: sorted(loads.items()) for name, loads in seen.items()}
    over_load(path, points, ours, "share of the worst tier in budget", lowest=LOWEST_DRAWN, mark="o")


def _work(chosen: Setting, seed: int, steps: int) -> Work:
    return mixed(chosen, steps * STEP, seed)


def _bears(
    chosen: Setting, name: str, work_at: Callable[[int], Work], seen: dict[str, dict[float, float]], steps: int
) -> bool:
    work = work_at(steps)
    worst = min(part.in_slo for part in by_tier(work, chosen.run(name, work)).values())
    seen.setdefault(name, {})[steps * STEP] = worst
    return worst >= IN_SLO


if __name__ == "__main__":
    sys.exit(main())

"""Does the order cost anything when there is nothing to order? All figures against first come, first served at .3.

worst_vs_fifo  the worst ratio over all metrics: p50 and p99 of the wait and of the time to the end, by tier (ours /
               theirs, with 1 ms added to both: waits of 0 are equal), and the share in budget (theirs / ours);
               above 1 is worse
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from qosqueue.policy.terms import Tier
from scripts.bench.report import Bar, Report, progress, run
from scripts.bench.sim.pictures import spreads
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import Setting, setting
from scripts.bench.sim.tally import Part, by_tier, in_slo

BARS = {"worst_vs_fifo": Bar("<=", 1.01)}
RHO = 0.3
PERCENTS = (50, 99)
FIFO = "fifo"
WORST = "worst metric to that of first come, first served (above 1 is worse)"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("light", __doc__.split("\n")[0], given, rho=RHO)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    readings = Readings()
    rivals = [name for name in chosen.rivals if name != FIFO]
    whats: list[str] = []
    for number, seed in enumerate(chosen.seeds, 1):
        work = mixed(chosen, chosen.rho, seed)
        fifo = by_tier(work, chosen.run(FIFO, work))
        for name in (chosen.measured, *rivals):
            compared = ratios(by_tier(work, chosen.run(name, work)), fifo)
            whats = list(compared)
            readings.add(name, worst_vs_fifo=max(compared.values()), **compared)
        progress(
            f"light, round {number} of {chosen.rounds}: {readings.of(chosen.measured, 'worst_vs_fifo')[-1]:.4f},"
            f" first come first served has {in_slo(fifo):.4f} in budget"
        )
    worst = {name: readings.of(name, "worst_vs_fifo") for name in (chosen.measured, *rivals)}
    return Report(
        "light",
        chosen.seed,
        readings.figures(chosen.measured, {**BARS, **dict.fromkeys(whats)}),
        readings.baselines(rivals, list(BARS)),
        tables=[readings.table(f"against first come first served at {chosen.rho:g}", rivals, list(BARS))],
        pictures={"worst": lambda path: spreads(path, worst, chosen.measured, WORST, BARS["worst_vs_fifo"].limit)},
    )


def ratios(ours: Mapping[Tier, Part], theirs: Mapping[Tier, Part]) -> dict[str, float]:
    """Each metric as a ratio that is above 1 if ours is worse."""
    compared = {}
    for tier, part in ours.items():
        for percent in PERCENTS:
            compared[f"{tier}_wait_p{percent}"] = (part.wait_ms(percent) + 1) / (theirs[tier].wait_ms(percent) + 1)
            compared[f"{tier}_end_p{percent}"] = (part.end_to_end_ms(percent) + 1) / (
                theirs[tier].end_to_end_ms(percent) + 1
            )
        compared[f"{tier}_in_slo"] = (theirs[tier].in_budget + 1) / (part.in_budget + 1)
    return compared


if __name__ == "__main__":
    sys.exit(main())

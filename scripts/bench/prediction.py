"""What do wrong predictions of the service cost, and does the risk of missing the start budget come true?

    loss_at_sigma_06        share started in budget with exact predictions, less that with sigma .6, at rho 1.2; at
                            other loads as loss_at_rho_...
    risk_calibration_error  expected calibration error, in ten equal bins, of the risk told once, at each request's
                            arrival, over loads of .7 to 1.3 together
    risk_auc                probability that a request that was late had been told a higher risk than one that was not
    risk_skill              how much better (squared error) than telling everybody the share of the late, which is well
                            calibrated too where few are late
    late                    that share

The risk is of qosqueue's order in the reference, whatever rule the loss is measured of. The naive guess beside it: how
long the tier's last started request waited.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scripts.bench.report import Bar, Report, progress, run
from scripts.bench.sim.calibration import auc, calibration_error, skill
from scripts.bench.sim.foresight import Foresight
from scripts.bench.sim.loop import NOT_STARTED
from scripts.bench.sim.loop import run as simulate
from scripts.bench.sim.pictures import reliability
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import Setting, setting
from scripts.bench.sim.tally import by_tier, in_slo, measured

RHO = 1.2
SIGMA = 0.6
OTHER_LOADS = (0.3, 1.0, 1.5)
RISK_LOADS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
QUICK_RISK_LOADS = (0.7, 1.0, 1.3)
BARS = {
    "loss_at_sigma_06": Bar("<=", 0.02),
    "risk_calibration_error": Bar("<=", 0.05),
    "risk_auc": Bar(">=", 0.9),
}
NAIVE = "naive"


@dataclass
class Told:
    """Of the measured requests of some runs: the risk told, the naive guess, and whether each was late."""

    risks: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("prediction", __doc__.split("\n")[0], given, rho=RHO, requests=15_000)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    name, loads = chosen.measured, () if chosen.quick else OTHER_LOADS
    readings, together = Readings(), Told()
    for number, seed in enumerate(chosen.seeds, 1):
        readings.add(name, **{f"loss_at_rho_{load:g}": loss(chosen, load, seed) for load in loads})
        told = foretold(chosen, seed)
        readings.add(
            name,
            loss_at_sigma_06=loss(chosen, chosen.rho, seed),
            risk_calibration_error=calibration_error(told.risks, told.late),
            risk_auc=auc(told.risks, told.late),
            risk_skill=skill(told.risks, told.late),
            late=sum(told.late) / len(told.late),
        )
        readings.add(NAIVE, risk_auc=auc(told.naive, told.late))
        together.risks += told.risks
        together.late += told.late
        last = (f"{what} {readings.of(name, what)[-1]:.4f}" for what in BARS)
        progress(f"prediction, round {number} of {chosen.rounds}: {', '.join(last)}")
    reported = [*(f"loss_at_rho_{load:g}" for load in loads), "risk_skill", "late"]
    return Report(
        "prediction",
        chosen.seed,
        readings.figures(name, {**BARS, **dict.fromkeys(reported)}),
        readings.baselines([NAIVE], ["risk_auc"]),
        pictures={"reliability": lambda path: reliability(path, together.risks, together.late)},
    )


def loss(chosen: Setting, load: float, seed: int) -> float:
    """What errors of sigma .6 cost: points / 100 of all requests."""
    shares = []
    for sigma in (0.0, SIGMA):
        work = mixed(replace(chosen, scale=replace(chosen.scale, sigma=sigma)), load, seed)
        shares.append(in_slo(by_tier(work, chosen.run(chosen.measured, work))))
    return shares[0] - shares[1]


def foretold(chosen: Setting, seed: int) -> Told:
    """What was told at arrival, and what happened, over all loads; each load begins with the first weights."""
    told = Told()
    for load in QUICK_RISK_LOADS if chosen.quick else RISK_LOADS:
        work = mixed(chosen, load, seed)
        foresight = Foresight(work.pool)
        started_ms = simulate(foresight, work.requests, chosen.slots(work.pool)).started_ms
        for request in measured(work):
            start_ms = started_ms[request.id]
            told.risks.append(foresight.risks[request.id])
            told.naive.append(foresight.naive[request.id])
            told.late.append(start_ms == NOT_STARTED or start_ms - request.arrival_ms > request.budget_ms)
    return told


if __name__ == "__main__":
    sys.exit(main())

"""How much of what online work leaves idle does batch work use, and what does online work lose by it?

idle_used        slot time of batch / slot time that online work left, with more batch than fits always waiting
online_loss      share of online requests in budget without batch, less the same with it
vip_p99_ratio    end to end p99 of vip with batch / without
batch_in_window  share of batch chunks started in their window, with nine tenths of what fits

With `--real` the same scene runs on real Celery workers (scripts/bench/real/setting.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qosqueue.policy.terms import TaskType, Tier
from scripts.bench.real.setting import setting
from scripts.bench.report import Bar, Report, run
from scripts.bench.sim.loop import Outcome
from scripts.bench.sim.occupancy import slot_ms
from scripts.bench.sim.pictures import use_of_slots
from scripts.bench.sim.readings import Readings
from scripts.bench.sim.scenes import mixed, with_batch
from scripts.bench.sim.setting import Setting
from scripts.bench.sim.tally import by_tier, in_slo, parts
from scripts.bench.sim.telling import tell_round, told
from scripts.bench.sim.work import Work

BARS = {
    "idle_used": Bar(">=", 0.95),
    "online_loss": Bar("<=", 0.001),
    "vip_p99_ratio": Bar("<=", 1.05),
    "batch_in_window": Bar(">=", 0.95),
}
RHO = 0.5
MORE_THAN_FITS, LESS_THAN_FITS = 1.3, 0.9
WINDOW_MS = 600_000
PERCENT = 99
PIECES = 60
MINUTE_MS = 60_000
FIFO = "fifo"


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    chosen = setting("harvest", __doc__.split("\n")[0], given, rho=RHO, speed=1.0)
    return run(lambda: measure(chosen))


def measure(chosen: Setting) -> Report:
    """All figures of one run."""
    readings = Readings()
    pictured: dict[str, dict[str, list[float]]] = {}
    for number, seed in enumerate(chosen.seeds, 1):
        work = mixed(chosen, chosen.rho, seed)
        full = with_batch(work, MORE_THAN_FITS, seed, window_ms=WINDOW_MS)
        fitting = with_batch(work, LESS_THAN_FITS, seed, window_ms=WINDOW_MS)
        for name in chosen.policies:
            before = by_tier(work, chosen.run(name, work))
            outcome = chosen.run(name, full)
            beside = by_tier(full, outcome)
            batch = parts(fitting, chosen.run(name, fitting), lambda request: request.task_type, TaskType.BATCH)
            if number == 1 and name in (chosen.measured, FIFO):
                pictured[name] = held(full, outcome)
            readings.add(
                name,
                idle_used=idle_used(full, outcome),
                online_loss=in_slo(before) - in_slo(beside),
                vip_p99_ratio=beside[Tier.VIP].end_to_end_ms(PERCENT) / before[Tier.VIP].end_to_end_ms(PERCENT),
                batch_in_window=batch[TaskType.BATCH].in_slo,
            )
        tell_round(chosen, number, readings, "idle_used")
    table = readings.table(f"batch beside online work at {chosen.rho:g}", chosen.policies, list(BARS))
    span_min = chosen.span_ms(chosen.rho) / MINUTE_MS
    return told(chosen, readings, BARS, table, {"slots": lambda path: use_of_slots(path, pictured, span_min)})


def held(work: Work, outcome: Outcome) -> dict[str, list[float]]:
    """The part of the pool that online and batch work held in each piece of the run."""
    piece_ms = work.span_ms // PIECES
    rows = slot_ms(outcome, lambda request: request.task_type, from_ms=0, to_ms=work.span_ms, every_ms=piece_ms)
    whole = work.pool.slots * piece_ms
    return {str(kind): [slot / whole for slot in rows[kind]] for kind in (TaskType.ONLINE, TaskType.BATCH)}


def idle_used(work: Work, outcome: Outcome) -> float:
    """Part of the slot time which online work did not hold that batch work held, in the measured window."""
    window_ms = work.measured_to_ms - work.measured_from_ms
    held = slot_ms(
        outcome,
        lambda request: request.task_type,
        from_ms=work.measured_from_ms,
        to_ms=work.measured_to_ms,
        every_ms=window_ms,
    )
    idle = work.pool.slots * window_ms - sum(held[TaskType.ONLINE])
    return sum(held[TaskType.BATCH]) / idle if idle else 1.0


if __name__ == "__main__":
    sys.exit(main())

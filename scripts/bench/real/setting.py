"""What does a person choose for a run in real time (`--real`), and what is it compared with?

    qosqueue    our transport, with the watchdog's part: the pool's terms, aging, reaping
    fifo        stock Celery, first come first served
    priorities  stock Celery with ten priorities
    simulated   qosqueue's rule in simulated time, on the very same requests

The scene is the simulator's, with as many slots over two worker processes; its clock runs `--speed` times faster than
the wall's, so that a run takes `--seconds`. Figures have the names, bars and units of the simulated benchmark (its own
milliseconds), under the bench name with `-real`. A wait counts from the instant at which a request should be
published: a producer that is late counts against the queue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from scripts.bench.policies.qosqueue import QosqueuePolicy
from scripts.bench.real.play import WORKERS, play
from scripts.bench.real.ways import QOSQUEUE, WAYS
from scripts.bench.report import percentile, progress
from scripts.bench.sim import setting as simulated
from scripts.bench.sim.loop import Outcome, run
from scripts.bench.sim.setting import Setting
from scripts.bench.sim.work import Work

SIMULATED = "simulated"
NAMES = (*WAYS, SIMULATED)
SPEED, SECONDS, QUICK_SECONDS = 2.0, 75, 20


@dataclass(frozen=True)
class RealSetting(Setting):
    """The choices of a run in real time; `kept` gathers how far the machine kept up, a line a run."""

    speed: float
    kept: list[str] = field(default_factory=list)

    @property
    def sweeps(self) -> bool:
        """Never: each load would take its time."""
        return False

    @property
    def notes(self) -> Sequence[str]:
        """How far the machine kept up with the scene."""
        told = f"{self.scale.slots} slots over {WORKERS} workers, {self.speed:g} times as fast as the scene"
        return ["\n".join([told, *self.kept])]

    def run(self, name: str, work: Work) -> Outcome:
        """The way of this name through the work."""
        if name == SIMULATED:
            return run(QosqueuePolicy(work.pool), work.requests, self.slots(work.pool))
        played = play(name, work, self.speed)
        rate = len(work.requests) / (work.span_ms / self.speed / 1000)
        p50, p99 = (percentile(played.late_ms, percent) for percent in (50, 99))
        self.kept.append(
            f"{name}: {len(work.requests)} requests, {rate:.0f}/s, published {p50:.1f} ms late (p99 {p99:.1f}),"
            f" {played.cpu_part:.0%} of the cores"
        )
        progress(self.kept[-1])
        return played.outcome


def setting(bench: str, about: str, given: Sequence[str] | None, *, rho: float, speed: float = SPEED) -> Setting:
    """The choices on a command line, for simulated time or with `--real` for real time.

    `rho` and `speed` are the benchmark's own defaults. A bad choice ends the program with one clear line.
    """
    parser = argparse.ArgumentParser(prog=f"make bench NAME={bench}", add_help=False, allow_abbrev=False)
    add = parser.add_argument
    add("--real", action="store_true", help="on real Celery workers, beside stock Celery")
    options, rest = parser.parse_known_args(given)
    if not options.real:
        return simulated.setting(bench, about, rest, rho=rho, more="--real: on real Celery workers (--real --help)")
    add("--rounds", type=simulated.whole(1), default=1, help="runs of each way (1)")
    add("--speed", type=simulated.number(0.1, 20), default=speed, help=f"scene's time to the wall's ({speed:g})")
    add("--seconds", type=simulated.whole(5), default=None, help=f"how long requests arrive, of the wall ({SECONDS})")
    add("--policies", type=_names, default=NAMES, help=f"of: {', '.join(NAMES)}")
    options, rest = parser.parse_known_args(given)
    chosen = simulated.setting(bench, about, rest, rho=rho, more=parser.format_help())
    seconds = options.seconds or (QUICK_SECONDS if chosen.quick else SECONDS)
    scale = chosen.scale
    # As many as arrive in that time at the load that the benchmark is read at.
    requests = round(seconds * 1000 * options.speed * scale.slots * chosen.rho / scale.mean_service_ms)
    choices = {each.name: getattr(chosen, each.name) for each in fields(chosen)} | {
        "bench": f"{bench}-real",
        "policies": options.policies,
        "rounds": options.rounds,
        "scale": replace(scale, requests=requests),
    }
    return RealSetting(**choices, speed=options.speed)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(NAMES)}, got {', '.join(unknown) or 'none'}")
    return tuple(sorted(names, key=lambda name: name != QOSQUEUE))

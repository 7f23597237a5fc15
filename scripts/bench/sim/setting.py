"""What does a person choose for a run in simulated time, and what is wrong with what they chose?"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from qosqueue.policy.terms import TIERS, Tier
from scripts.bench import report
from scripts.bench.policies.interface import Policy, Pool
from scripts.bench.policies.registry import POLICIES
from scripts.bench.sim.iterations import Replicas
from scripts.bench.sim.loop import Outcome, Server, run
from scripts.bench.sim.shapes import STEADY, Shape, diurnal, spike
from scripts.bench.sim.slots import Slots
from scripts.bench.sim.tenants import BUDGETS_MS, DEFAULT_MIX, Mix, Tenant
from scripts.bench.sim.traces import Row, located, read, traced
from scripts.bench.sim.work import Scale, Work, synthetic

MEASURED = "qosqueue"
WITH_REDIS = "qosqueue-redis"
SYNTHETIC = "synthetic"
FOUND = "a path, or a name in the folder $TRACES (else in ../shared/traces)"

PATTERNS: Mapping[str, Callable[[int], Shape]] = {
    "steady": lambda span_ms: STEADY,
    "diurnal": diurnal,
    "spike": lambda span_ms: spike(span_ms // 2),
}


@dataclass(frozen=True)
class Setting:
    """All choices; `policies` begins with the measured one. `bench` is the name of what is measured so."""

    bench: str
    policies: tuple[str, ...]
    scale: Scale
    mix: Mix
    budgets_ms: Mapping[Tier, int]
    server: str
    pattern: Callable[[int], Shape]
    cv: float | None
    rho: float
    flood_factor: float
    flood_tier: Tier
    trace: tuple[Row, ...] | None
    seed: int
    rounds: int
    quick: bool

    @property
    def measured(self) -> str:
        """The rule that the figures are about."""
        return self.policies[0]

    @property
    def rivals(self) -> tuple[str, ...]:
        """The rules that it is compared with."""
        return self.policies[1:]

    @property
    def seeds(self) -> list[int]:
        """One a round."""
        return [self.seed + number for number in range(self.rounds)]

    @property
    def sweeps(self) -> bool:
        """Whether there is time for a run at each of many loads."""
        return not self.quick

    @property
    def notes(self) -> Sequence[str]:
        """What a reader must know of how it was run."""
        return ()

    def span_ms(self, load: float) -> int:
        """How long a run at a load lasts."""
        if self.trace is None:
            return self.scale.span_ms(load)
        return replace(self.scale, requests=min(len(self.trace), self.scale.requests)).span_ms(load)

    def work(
        self,
        tenants: Sequence[Tenant],
        seed: int,
        *,
        span_ms: int,
        shapes: Mapping[str, Shape] | None = None,
        measured_from_ms: int | None = None,
    ) -> Work:
        """What these tenants send, drawn or after the trace."""
        if self.trace is None:
            return synthetic(
                tenants,
                self.scale,
                seed,
                shapes=shapes,
                budgets_ms=self.budgets_ms,
                span_ms=span_ms,
                measured_from_ms=measured_from_ms,
            )
        return traced(
            self.trace,
            tenants,
            self.scale,
            seed,
            shapes=shapes,
            budgets_ms=self.budgets_ms,
            span_ms=span_ms,
            measured_from_ms=measured_from_ms,
        )

    def run(self, name: str, work: Work) -> Outcome:
        """The rule of this name through the work."""
        return run(make(name, work.pool), work.requests, self.slots(work.pool))

    def slots(self, pool: Pool) -> Server:
        """The server model that was chosen, with as many slots as the pool has."""
        return Slots(pool.slots) if self.server == "slots" else Replicas.of(pool)


def make(name: str, pool: Pool) -> Policy:
    """The rule of this name over a pool."""
    return POLICIES[name](pool)


def setting(
    bench: str, about: str, given: Sequence[str] | None, *, rho: float, requests: int = 30_000, more: str | None = None
) -> Setting:
    """The choices on a command line; a bad one ends the program with one clear line.

    `rho` and `requests` are the benchmark's own defaults; `more` is said at the end of its help.
    """
    parser = report.parser(bench, about)
    parser.epilog = more
    add = parser.add_argument
    add("--policies", type=_policies, default=tuple(POLICIES), help=f"of: {', '.join(POLICIES)}")
    add("--redis", action="store_true", help=f"measure {WITH_REDIS}: the real scripts in a real server")
    add(
        "--trace",
        type=_trace,
        default=None,
        help=f"{SYNTHETIC} (default), Azure's CSV or Mooncake's JSONL; {FOUND}",
    )
    add("--server", choices=("slots", "iterations"), default="slots", help="fixed service, or continuous batching")
    add("--slots", type=whole(1), default=64, help="slots of the pool")
    add("--mean-service-ms", type=whole(1), default=4_000, help="mean service time")
    add("--requests", type=whole(1_000), default=None, help=f"requests of a run at normal rates ({requests})")
    add("--sigma", type=number(0, 5), default=0.6, help="error of the predicted service: log-normal sigma")
    add(
        "--mix", type=_mix, default=DEFAULT_MIX, help="tenants and part of the load: vip=2:15,standard=6:35,basic=12:50"
    )
    add("--budgets-ms", type=_budgets, default=BUDGETS_MS, help="start budgets: vip=1000,standard=3000,basic=10000")
    add("--pattern", choices=tuple(PATTERNS), default="steady", help="diurnal: 2.5x; spike: 10x for 30 s")
    add("--cv", type=number(0.1, 20), default=None, help="CV of all tenants' gaps instead of their own")
    add("--rho", type=number(0.01, 5), default=rho, help=f"load, where the benchmark is read at one ({rho:g})")
    add("--flood-factor", type=number(1, 100), default=4.0, help="how many times its normal demand a flooder brings")
    add("--flood-tier", type=_tier, default=Tier.BASIC, help="tier of the flooder")
    options = parser.parse_args(given)
    return Setting(
        bench=bench,
        policies=_measured_first(options.policies, redis=options.redis, parser=parser),
        scale=Scale(
            options.slots,
            options.mean_service_ms,
            options.requests or (requests // 3 if options.quick else requests),
            options.sigma,
        ),
        mix=options.mix,
        budgets_ms=options.budgets_ms,
        server=options.server,
        pattern=PATTERNS[options.pattern],
        cv=options.cv,
        rho=options.rho,
        flood_factor=options.flood_factor,
        flood_tier=options.flood_tier,
        trace=options.trace,
        seed=options.seed,
        rounds=options.rounds,
        quick=options.quick,
    )


def _measured_first(names: tuple[str, ...], *, redis: bool, parser: argparse.ArgumentParser) -> tuple[str, ...]:
    if redis and WITH_REDIS not in POLICIES:
        parser.error(f"argument --redis: there is no rule {WITH_REDIS}")
    wanted = WITH_REDIS if redis else MEASURED if MEASURED in names else names[0]
    return (wanted, *(name for name in names if name not in (wanted, WITH_REDIS)))


def _policies(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(POLICIES)}, got {', '.join(unknown) or 'none'}")
    return names


def _trace(text: str) -> tuple[Row, ...] | None:
    if text == SYNTHETIC:
        return None
    try:
        return tuple(read(located(text)))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, got {text!r}")
        return value

    return parse


def _tier(text: str) -> Tier:
    try:
        return Tier(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(TIERS)}, got {text!r}") from error


def _each_tier(text: str, expected: str) -> dict[Tier, str]:
    """`vip=a,standard=b,basic=c` as a dictionary, all tiers there once."""
    pairs = [part.partition("=") for part in text.split(",")]
    values = {_tier(name.strip()): value.strip() for name, _, value in pairs}
    if len(values) != len(TIERS) or len(pairs) != len(TIERS):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return values


def _budgets(text: str) -> dict[Tier, int]:
    return {tier: whole(1)(value) for tier, value in _each_tier(text, "vip=MS,standard=MS,basic=MS").items()}


def _mix(text: str) -> Mix:
    expected = "vip=TENANTS:PART,standard=TENANTS:PART,basic=TENANTS:PART with parts above 0"
    tenants, weights = {}, {}
    for tier, value in _each_tier(text, expected).items():
        count, _, part = value.partition(":")
        tenants[tier], weights[tier] = whole(1)(count), number(1e-6, 1e6)(part)
    total = sum(weights.values())
    return Mix(tenants, {tier: weight / total for tier, weight in weights.items()})

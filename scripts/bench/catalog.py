"""Which benchmarks does the table of figures hold, and what is each of them given?

First the rows that the bars are read at. Then the same figures elsewhere, all with `--quick`: on the recorded traces,
on the real scripts, in small pools, with the start budgets that the product ships, with a flooder of a higher tier.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.terms import TIERS, TaskType
from scripts.bench.sim.traces import located


@dataclass(frozen=True)
class Bench:
    """One benchmark: the name of its rows, its module, and what it is given.

    One that is `timed` runs alone; one that is `elsewhere` keeps no picture.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    timed: bool = False
    elsewhere: bool = False
    trace: str = ""

    @property
    def there(self) -> bool:
        """Whether this checkout has it, and this machine its trace."""
        return importlib.util.find_spec(f"scripts.bench.{self.module}") is not None and (
            not self.trace or located(self.trace).exists()
        )

    def given(self, *more: str) -> list[str]:
        """Its arguments, and those of `more` that are not among them."""
        return [*self.arguments, *(one for one in more if one not in self.arguments)]

    def command(self, *more: str) -> str:
        """What a person types to run it alone."""
        given = " ".join(self.given(*more))
        return f"make -s bench NAME={self.module}" + (f' ARGS="{given}"' if given else "")


SIMULATED = ("flood", "overload", "capacity", "harvest", "light", "binding", "prediction", "fairness")
TIMED = ("queue", "fastpath", "recovery", "coldstart")
NAMES = ("queue", "fastpath", *SIMULATED, "recovery", "coldstart", "scale")
# First come, first served needs four minutes to fall as far behind as it does for good.
REAL = {"flood": ("--real",), "overload": ("--real", "--seconds", "240"), "harvest": ("--real",)}
QUICK = "--quick"
TRACES = {"azure": "azure2023_code.csv", "mooncake": "mooncake_conversation.jsonl"}
_BUDGETS = ",".join(f"{tier}={DEFAULT_BUDGET_MS[TaskType.ONLINE][tier]}" for tier in TIERS)
ELSEWHERE = {
    "redis": ("--redis", "--policies", "qosqueue,fifo"),
    "16-slots": ("--slots", "16"),
    "4-slots": ("--slots", "4"),
    "shipped-budgets": ("--budgets-ms", _BUDGETS),
}


def _elsewhere() -> Iterator[Bench]:
    for name in SIMULATED:
        for what, trace in TRACES.items():
            yield Bench(f"{name}-{what}", name, ("--trace", trace, QUICK), elsewhere=True, trace=trace)
        for what, arguments in ELSEWHERE.items():
            # Early binding needs two replicas of four slots.
            if (name, what) != ("binding", "4-slots"):
                yield Bench(f"{name}-{what}", name, (*arguments, QUICK), elsewhere=True)
    for tier in TIERS[:-1]:
        yield Bench(f"flood-by-{tier}", "flood", ("--flood-tier", str(tier), QUICK), elsewhere=True)


CATALOG = (
    *(Bench(name, name, timed=name in TIMED) for name in NAMES),
    *(Bench(f"{name}-real", name, arguments, timed=True) for name, arguments in REAL.items()),
    *_elsewhere(),
)

"""How are the two runs shown: a table by tier, one sentence, one JSON object?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from qosqueue.policy.terms import Tier
from scripts.demo.load import STREAMS
from scripts.demo.measure import Figures, Run
from scripts.demo.system import Order

NAMES: dict[Order, str] = {"fifo": "FIFO", "qos": "qosqueue"}
NEVER = "–"
BASELINE = (
    "FIFO is stock Celery on stock Kombu with one queue. Both ways have the same engine, slots, web server and "
    "arrivals; each started fresh."
)


def table(runs: dict[Order, Run]) -> Table:
    """One pair of lines for each tier."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for title in ("tier", "order"):
        shown.add_column(title, no_wrap=True)
    for title in ("done", "in\nbudget", "first\np50", "token\np99", "whole\np50", "answer\np99", "tokens\n/s"):
        shown.add_column(title, justify="right", no_wrap=True)
    for tier in STREAMS:
        for order, run in runs.items():
            last = order == list(runs)[-1]
            name = tier.value if order == next(iter(runs)) else ""
            shown.add_row(name, NAMES[order], *_cells(run.tiers[tier]), end_section=last)
    for order, run in runs.items():
        rest = [""] * 6
        shown.add_row("all" if order == next(iter(runs)) else "", NAMES[order], *rest, f"{run.tokens_per_s:.0f}")
    return shown


def legend(runs: dict[Order, Run]) -> list[str]:
    """What the table's words mean, and the faults if there were any."""
    lines = [f"budgets: {'; '.join(f'{tier}: {stream.judged}' for tier, stream in STREAMS.items())}"]
    figures = [one for run in runs.values() for one in run.tiers.values()]
    if any(one.end_p50_ms is None or one.end_p99_ms is None for one in figures):
        lines.append(f"{NEVER}: not in the window (what is not done in it has missed its budget)")
    for order, run in runs.items():
        lines += [f"fault in {NAMES[order]}, {number} times: {fault}" for fault, number in run.faults.items()]
    return [*lines, BASELINE]


def sentence(runs: dict[Order, Run]) -> str:
    """What changed from FIFO to qosqueue, whichever way it went."""
    fifo, qos = runs["fifo"], runs["qos"]
    parts = []
    for tier in (Tier.VIP, Tier.STANDARD):
        before, after = fifo.tiers[tier], qos.tiers[tier]
        share = _moved(round(before.met_percent), round(after.met_percent), " %")
        parts.append(f"{tier} requests in budget ({STREAMS[tier].judged}) {share}")
    before, after = fifo.tiers[Tier.BASIC], qos.tiers[Tier.BASIC]
    parts.append(f"bulk jobs done {_moved(before.done, after.done)} of {after.requests}")
    tokens = _moved(round(fifo.tokens_per_s), round(qos.tokens_per_s), " tokens/s")
    return f"From FIFO to qosqueue, {', '.join(parts)}, and the work of all tenants together {tokens}."


def as_json(runs: dict[Order, Run], *, seconds: float, seed: int) -> dict[str, Any]:
    """Everything that the table says, and the sentence; times in ms, null: not in the window."""
    return {
        "seconds": seconds,
        "seed": seed,
        "budgets": {tier.value: str(stream.judged) for tier, stream in STREAMS.items()},
        "orders": {
            order: {
                "tiers": {
                    tier.value: asdict(figures) | {"met_percent": figures.met_percent}
                    for tier, figures in run.tiers.items()
                },
                "tokens_per_s": run.tokens_per_s,
                "faults": dict(run.faults),
            }
            for order, run in runs.items()
        },
        "sentence": sentence(runs),
        "baseline": BASELINE,
    }


def duration(ms: float | None) -> str:
    """A time for people."""
    if ms is None:
        return NEVER
    return f"{ms:.0f} ms" if round(ms) < 1000 else f"{ms / 1000:.1f} s"


def _cells(figures: Figures) -> list[str]:
    return [
        f"{figures.done}/{figures.requests}",
        f"{figures.met_percent:.0f} %",
        duration(figures.first_token_p50_ms),
        duration(figures.first_token_p99_ms),
        duration(figures.end_p50_ms),
        duration(figures.end_p99_ms),
        f"{figures.tokens_per_s:.0f}",
    ]


def _moved(before: int, after: int, unit: str = "") -> str:
    if before == after:
        return f"stayed at {after}{unit}"
    return f"{'rose' if after > before else 'fell'} from {before} to {after}{unit}"

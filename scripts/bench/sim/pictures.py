"""How do loads, waits and shares look? SVG files, the same bytes for the same values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qosqueue.policy.terms import Tier
from scripts.bench.sim.calibration import bins

WIDTH_IN, HEIGHT_IN = 8.0, 4.5
COLOURS: Mapping[Tier, str] = {Tier.VIP: "#c62828", Tier.STANDARD: "#1565c0", Tier.BASIC: "#2e7d32"}
SHORTEST, MOST_POINTS = 1e-3, 400
OURS_WIDTH, RIVALS_WIDTH = 3.0, 1.0
OURS, THEIRS = "#1565c0", "#9e9e9e"
WIDE = 20  # values that lie so many times apart are drawn on a logarithmic scale


def attainment(path: Path, loads: Sequence[float], in_slo: Mapping[str, Sequence[float]], ours: str) -> None:
    """Share started in budget over the load, a line a rule; the measured rule is the thick one."""
    lines = {name: list(zip(loads, values, strict=True)) for name, values in in_slo.items()}
    over_load(path, lines, ours, "share started in budget")


def over_load(
    path: Path,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    ours: str,
    told: str,
    *,
    lowest: float = -0.02,
    mark: str = "",
) -> None:
    """A share over the load, a line of points a rule; the measured rule is the thick one."""
    figure, axes = _axes(1)
    for number, (name, points) in enumerate(lines.items()):
        style = ("-" if number < 10 else "--") + mark
        loads, shares = zip(*points, strict=True)
        axes[0].plot(loads, shares, style, label=name, linewidth=OURS_WIDTH if name == ours else RIVALS_WIDTH)
    axes[0].set(xlabel="load (1: all slots busy)", ylabel=told, ylim=(lowest, 1.02))
    axes[0].legend(fontsize="small", ncols=2)
    _write(figure, path)


def spreads(path: Path, rounds: Mapping[str, Sequence[float]], ours: str, told: str, limit: float | None) -> None:
    """A line a way: its median over the rounds, from its lowest to its highest; the dashed line is the bar."""
    figure, axes = _axes(1)
    for name, values in rounds.items():
        width = OURS_WIDTH if name == ours else RIVALS_WIDTH
        axes[0].plot([min(values), max(values)], [name, name], color=OURS if name == ours else THEIRS, linewidth=width)
        axes[0].plot([statistics.median(values)], [name], "o", color=OURS if name == ours else THEIRS)
    if limit is not None:
        axes[0].axvline(limit, color="#555555", linestyle="--", linewidth=RIVALS_WIDTH)
    every = [value for values in rounds.values() for value in values]
    axes[0].set(xlabel=told, xscale="log" if 0 < min(every) < max(every) / WIDE else "linear")
    axes[0].invert_yaxis()
    _write(figure, path)


def use_of_slots(path: Path, held: Mapping[str, Mapping[str, Sequence[float]]], span_min: float) -> None:
    """For each rule which part of the pool each kind of work held in each piece of the span, one upon the other."""
    figure, axes = _axes(len(held))
    for panel, (name, kinds) in zip(axes, held.items(), strict=True):
        pieces = len(next(iter(kinds.values())))
        panel.stackplot(
            [span_min * piece / pieces for piece in range(pieces)],
            list(kinds.values()),
            labels=list(kinds),
            colors=(OURS, THEIRS),
        )
        panel.set(xlabel="minute", title=name, ylim=(0, 1.02))
    axes[0].set_ylabel("part of the pool")
    axes[0].legend(loc="lower left")
    _write(figure, path)


def over_size(path: Path, points: Mapping[int, tuple[float, float]]) -> None:
    """Processor time of a decision and share in budget over the number of requests."""
    figure, axes = _axes(1)
    sizes = sorted(points)
    axes[0].plot(sizes, [points[size][0] for size in sizes], "o-", color=OURS, label="us a decision (left)")
    axes[0].set(xscale="log", xlabel="requests, and slots and tenants in proportion", ylabel="us a decision")
    axes[0].set_ylim(bottom=0)
    right = axes[0].twinx()
    right.plot(sizes, [points[size][1] for size in sizes], "s--", color=THEIRS, label="in budget (right)")
    right.set(ylabel="share started in budget", ylim=(0, 1.02))
    figure.legend(loc="outside upper center", ncols=2)
    _write(figure, path)


def first_starts(path: Path, waits: Mapping[str, Mapping[Tier, Sequence[float]]]) -> None:
    """Distribution of the waits of each tier, in start budgets (1 is the limit), a panel a rule."""
    figure, axes = _axes(len(waits))
    for panel, (name, tiers) in zip(axes, waits.items(), strict=True):
        for tier, budgets in tiers.items():
            shares, at = quantiles([max(budget, SHORTEST) for budget in budgets])
            panel.step(at, shares, where="post", label=str(tier), color=COLOURS[tier])
        panel.axvline(1.0, color="#555555", linestyle="--", linewidth=RIVALS_WIDTH)
        panel.set(xscale="log", xlabel="wait for the start / start budget", title=name)
    axes[0].set_ylabel("share of the requests")
    axes[0].legend()
    _write(figure, path)


def quantiles(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """A distribution in at most 401 points: shares from 0 to 1, and the values that so many do not exceed."""
    ordered = sorted(values)
    steps = min(MOST_POINTS, len(ordered))
    shares = [step / steps for step in range(steps + 1)]
    return shares, [ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in shares]


def shares_over_time(
    path: Path, contracts: Mapping[str, float], shares: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """For each rule and tenant what it held of the pool in each minute, less its contract."""
    figure, axes = _axes(len(shares))
    for panel, (name, tenants) in zip(axes, shares.items(), strict=True):
        for tenant, contract in contracts.items():
            panel.plot([share - contract for share in tenants[tenant]], label=f"{tenant} ({contract:g})")
        panel.axhline(0.0, color="#555555", linestyle="--", linewidth=RIVALS_WIDTH)
        panel.set(xlabel="minute", title=name)
    axes[0].set_ylabel("part of the pool less contract")
    axes[0].legend(fontsize="small")
    _write(figure, path)


def reliability(path: Path, told: Sequence[float], came: Sequence[bool]) -> None:
    """What was told against what was seen, a point a tenth with its count; on the line both are equal."""
    figure, axes = _axes(1)
    parts = bins(told, came)
    axes[0].plot([0, 1], [0, 1], color="#555555", linestyle="--", linewidth=RIVALS_WIDTH)
    axes[0].plot([part.told for part in parts], [part.seen for part in parts], "o-", linewidth=OURS_WIDTH)
    for part in parts:
        axes[0].annotate(
            f"{part.count}", (part.told, part.seen), (8, -12), textcoords="offset points", fontsize="small"
        )
    axes[0].set(xlabel="risk told at arrival", ylabel="share that started late", xlim=(0, 1), ylim=(0, 1))
    _write(figure, path)


def _axes(panels: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH_IN * max(1, panels) ** 0.7, HEIGHT_IN), layout="constrained")
    return figure, list(figure.subplots(1, panels, sharex=True, sharey=True, squeeze=False)[0])


def _write(figure: Figure, path: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": "qosqueue", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})

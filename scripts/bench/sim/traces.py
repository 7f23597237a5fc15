"""How does a recorded trace become the work of many tenants?

Two public formats are read from any path: Azure's CSV (`TIMESTAMP,ContextTokens,GeneratedTokens`, the Azure public data
set of 2023) and Mooncake's JSON lines (`timestamp` in ms, `input_length`, `output_length`, FAST'25).
The trace gives the instants and lengths; each row is sent by a tenant drawn by share. Time is stretched to reach the
load, and service times to reach the mean: a burst of the trace stays a burst.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from qosqueue.policy.terms import Tier
from scripts.bench.machine import REPOSITORY
from scripts.bench.sim.shapes import STEADY, Shape
from scripts.bench.sim.tenants import BUDGETS_MS, Tenant
from scripts.bench.sim.work import Scale, Sent, Work, finished

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_FIELDS = ("timestamp", "input_length", "output_length")
MICROSECONDS_AT = 26  # Azure writes seven digits of a second; Python reads six


class Row(NamedTuple):
    """One request of a trace; the time is in ms from the first one."""

    at_ms: float
    prompt_tokens: int
    output_tokens: int


def located(name: str) -> Path:
    """The path if there is such a file, else the file of that name in the folder $TRACES, or in `../shared/traces`."""
    path = Path(name)
    folder = os.environ.get("TRACES") or REPOSITORY.parent / "shared" / "traces"
    return path if path.exists() or not (Path(folder) / path.name).exists() else Path(folder) / path.name


def read(path: Path) -> list[Row]:
    """The rows of a trace in order of time, two at least.

    Raises OSError if it cannot be read, ValueError with file and line if a line is not of the format.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        first = lines.read(1)
        lines.seek(0)
        rows = list(_mooncake(path, lines) if first == "{" else _azure(path, lines))
    if len(rows) < 2:
        raise ValueError(f"{path}: expected at least 2 requests, got {len(rows)}")
    rows.sort(key=lambda row: row.at_ms)
    start_ms = rows[0].at_ms
    if rows[-1].at_ms == start_ms:
        raise ValueError(f"{path}: expected requests at different times, got all at one")
    return [Row(at_ms - start_ms, prompt, output) for at_ms, prompt, output in rows]


def traced(
    trace: Sequence[Row],
    tenants: Sequence[Tenant],
    scale: Scale,
    seed: int,
    *,
    span_ms: int,
    shapes: Mapping[str, Shape] | None = None,
    budgets_ms: Mapping[Tier, int] = BUDGETS_MS,
    measured_from_ms: int | None = None,
) -> Work:
    """Work after the first `scale.requests` rows of a trace, stretched over the span.

    What a tenant sends above its normal rate comes from the same trace, begun elsewhere.
    """
    rows = trace[: scale.requests]
    stretch = span_ms / (rows[-1].at_ms * (1 + 1 / len(rows)))
    draw = random.Random(f"trace {seed}")
    load = sum(tenant.share for tenant in tenants)
    names = [(tenant, (shapes or {}).get(tenant.name, STEADY)) for tenant in tenants]
    shares = [tenant.share for tenant in tenants]
    sent: list[Sent] = []
    for row in rows:
        tenant, shape = draw.choices(names, shares)[0]
        at_ms = int(row.at_ms * stretch)
        if draw.random() < shape.factor_at(at_ms):
            sent.append(Sent(at_ms, tenant, row.prompt_tokens, row.output_tokens))
    asked_slot_ms = 0.0
    for tenant, shape in names:
        asked_slot_ms += tenant.share * scale.slots * shape.work_until(span_ms)
        most = max(factor for _, factor in shape.steps) - 1
        copies = math.ceil(most * tenant.share / load)
        for _ in range(copies):
            begin_ms = draw.randrange(span_ms)
            for row in rows:
                at_ms = (begin_ms + int(row.at_ms * stretch)) % span_ms
                if draw.random() < (shape.factor_at(at_ms) - 1) * tenant.share / load / copies:
                    sent.append(Sent(at_ms, tenant, row.prompt_tokens, row.output_tokens))
    sent.sort(key=lambda one: one.arrival_ms)
    return finished(
        sent, asked_slot_ms, scale, seed, span_ms=span_ms, budgets_ms=budgets_ms, measured_from_ms=measured_from_ms
    )


def _azure(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    table = csv.reader(lines)
    header = tuple(next(table, ()))
    if header != AZURE_COLUMNS:
        raise ValueError(
            f"{path}, line 1: expected {','.join(AZURE_COLUMNS)} or a JSON object, got {','.join(header)!r}"
        )
    for cells in table:
        try:
            instant, prompt, output = cells
            at_ms = datetime.fromisoformat(instant[:MICROSECONDS_AT]).timestamp() * 1000
            yield _row(at_ms, int(prompt), int(output))
        except ValueError as error:
            raise ValueError(f"{path}, line {table.line_num}: expected a time and two lengths, got {cells}") from error


def _mooncake(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        try:
            told = json.loads(line)
            at_ms, prompt, output = (told[name] for name in MOONCAKE_FIELDS)
            yield _row(at_ms, prompt, output)
        except (ValueError, KeyError, TypeError) as error:
            expected = "an object with timestamp, input_length and output_length"
            raise ValueError(f"{path}, line {number}: expected {expected}, got {line.strip()[:80]!r}") from error


def _row(at_ms: float, prompt_tokens: int, output_tokens: int) -> Row:
    for value in (prompt_tokens, output_tokens):
        if type(value) is not int or value < 0:
            raise ValueError("a length is a whole number from 0")
    if not isinstance(at_ms, int | float) or not math.isfinite(at_ms):
        raise ValueError("a time is a number")
    return Row(float(at_ms), prompt_tokens, output_tokens)

"""How heavy is a model: from its memory, its parameters, and what a step of it was measured to take?

| class | memory | one forward pass |
|---|---|---|
| light | below 1 GB | below 10 ms |
| medium | 2–6 GB | 20–100 ms |
| heavy | above 10 GB | above 100 ms |

Between the ranges (1–2 GB, 6–10 GB, 10–20 ms) the heavier class counts, and of two verdicts the heavier one: to treat a
model as too light ruins its neighbours, the reverse only costs some sharing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qosqueue.policy.terms import WEIGHT_CLASSES, WeightClass

GB = 10**9
LIGHT_BELOW_BYTES = 1 * GB
MEDIUM_UP_TO_BYTES = 6 * GB
LIGHT_BELOW_MS = 10
MEDIUM_UP_TO_MS = 100
# Half precision: what a model's weights take where nobody says how much memory it needs.
BYTES_PER_PARAMETER = 2


class WeightBasis(StrEnum):
    """What a weight class comes from: a person's word, a measurement, the memory, or the number of parameters."""

    GIVEN = "given"
    MEASURED = "measured"
    MEMORY = "memory"
    PARAMETERS = "parameters"


@dataclass(frozen=True)
class Weighed:
    """A weight class and what it comes from."""

    weight_class: WeightClass
    basis: WeightBasis


def weigh(memory_bytes: int, parameters: int | None = None, measured_ms: int | None = None) -> Weighed:
    """Weight class of a model from its memory (bytes; 0: not known), its number of parameters and the ms of a step.

    The parameters count only where the memory is not known.
    """
    by_parameters = memory_bytes == 0 and parameters is not None
    size = BYTES_PER_PARAMETER * (parameters or 0) if by_parameters else memory_bytes
    by_size = _level(size, LIGHT_BELOW_BYTES, MEDIUM_UP_TO_BYTES)
    by_time = 0 if measured_ms is None else _level(measured_ms, LIGHT_BELOW_MS, MEDIUM_UP_TO_MS)
    if by_time > by_size:
        return Weighed(WEIGHT_CLASSES[by_time], WeightBasis.MEASURED)
    return Weighed(WEIGHT_CLASSES[by_size], WeightBasis.PARAMETERS if by_parameters else WeightBasis.MEMORY)


def in_words(weighed: Weighed, memory_bytes: int, parameters: int | None, measured_ms: int | None) -> str:
    """Why a model has its weight class, as a sentence for a person."""
    by_size = "light is below 1 GB, medium up to 6 GB"
    if weighed.basis is WeightBasis.GIVEN:
        reason = "it was given"
    elif weighed.basis is WeightBasis.MEASURED:
        by_time = f"light is below {LIGHT_BELOW_MS} ms, medium up to {MEDIUM_UP_TO_MS} ms"
        reason = f"a step was measured to take {measured_ms} ms ({by_time})"
    elif weighed.basis is WeightBasis.MEMORY:
        reason = f"it takes {_gb(memory_bytes)} of memory ({by_size})"
    else:
        reason = f"{parameters} parameters take about {_gb(BYTES_PER_PARAMETER * (parameters or 0))} ({by_size})"
    return f"{weighed.weight_class}: {reason}"


def _gb(size: int) -> str:
    return f"{size // GB}.{size % GB // (GB // 10)} GB"


def _level(value: int, light_below: int, medium_up_to: int) -> int:
    return 0 if value < light_below else 1 if value <= medium_up_to else 2

"""How good are told probabilities, when it is known what happened?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The probabilities of one tenth: how many, their mean, and the share of them that came true."""

    count: int
    told: float
    seen: float


def bins(told: Sequence[float], came: Sequence[bool]) -> list[Bin]:
    """The bins [0, .1), [.1, .2) ... [.9, 1] that hold anything."""
    held: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, true in zip(told, came, strict=True):
        held[min(int(probability * BINS), BINS - 1)].append((probability, true))
    return [
        Bin(len(pairs), sum(told for told, _ in pairs) / len(pairs), sum(true for _, true in pairs) / len(pairs))
        for pairs in held
        if pairs
    ]


def calibration_error(told: Sequence[float], came: Sequence[bool]) -> float:
    """Mean distance of what was told and what was seen, over the bins by their counts (Naeini et al., AAAI 2015)."""
    return sum(part.count * abs(part.told - part.seen) for part in bins(told, came)) / len(told)


def skill(told: Sequence[float], came: Sequence[bool]) -> float:
    """How much smaller the squared error is than that of always telling the mean: 1 is perfect, 0 says nothing.

    0 where all or nothing came true.
    """
    mean = sum(came) / len(came)
    unknown = len(came) * mean * (1 - mean)
    return 1 - sum((told - true) ** 2 for told, true in zip(told, came, strict=True)) / unknown if unknown else 0.0


def auc(scores: Sequence[float], came: Sequence[bool]) -> float:
    """Probability that one that came true had a higher score than one that did not (equal: half).

    0.5 where all or nothing came true.
    """
    true = sum(came)
    false = len(came) - true
    if not true or not false:
        return 0.5
    wins, below = 0.0, 0
    ranked = sorted(zip(scores, came, strict=True), key=lambda pair: pair[0])
    for _, equal in groupby(ranked, key=lambda pair: pair[0]):
        outcomes = [outcome for _, outcome in equal]
        misses = len(outcomes) - sum(outcomes)
        wins += sum(outcomes) * (below + misses / 2)
        below += misses
    return wins / (true * false)

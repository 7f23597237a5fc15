"""Is each picture the same bytes for the same values, and small?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.bench.all import LARGEST_PICTURE_BYTES
from scripts.bench.sim import pictures

LINES = {name: [(load / 10, 1 - load / 50) for load in range(12)] for name in "abcdefghijklm"}
ROUNDS = {"a": [1.0, 1.5, 2.0], "b": [100.0, 300.0, 200.0]}
HELD = {rule: {kind: [0.25] * 60 for kind in ("online", "batch")} for rule in "ab"}
DRAWN: dict[str, Callable[[Path], None]] = {
    "over the load": lambda path: pictures.over_load(path, LINES, "a", "share", mark="o"),
    "spreads": lambda path: pictures.spreads(path, ROUNDS, "a", "ratio", 1.01),
    "spreads from nothing": lambda path: pictures.spreads(path, ROUNDS | {"c": [0.0]}, "a", "ratio", None),
    "use of slots": lambda path: pictures.use_of_slots(path, HELD, 62.5),
    "over the size": lambda path: pictures.over_size(path, {10_000: (90.0, 0.9), 1_000_000: (120.0, 0.95)}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_the_same_bytes_again_and_small(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    DRAWN[name](first)
    DRAWN[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert 0 < first.stat().st_size < LARGEST_PICTURE_BYTES

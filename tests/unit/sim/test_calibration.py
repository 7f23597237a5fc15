"""Are told probabilities judged rightly?"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.bench.sim.calibration import Bin, auc, bins, calibration_error, skill
from scripts.bench.sim.pictures import reliability


def test_probabilities_are_compared_with_what_came_tenth_by_tenth() -> None:
    told, came = [0.0, 0.05, 0.5, 0.5, 1.0], [False, False, True, False, True]
    assert bins(told, came) == [Bin(2, 0.025, 0.0), Bin(2, 0.5, 0.5), Bin(1, 1.0, 1.0)]
    assert calibration_error(told, came) == pytest.approx(0.01)


def test_the_auc_counts_pairs_in_the_right_order_and_equal_ones_half() -> None:
    assert auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auc([0.3, 0.3, 0.3], [True, False, True]) == 0.5
    assert auc([1, 2], [False, True]) == 1.0


def test_skill_is_none_for_the_mean_and_whole_for_the_truth() -> None:
    came = [True, False, False, False]
    assert skill([0.25] * 4, came) == 0.0
    assert skill([1, 0, 0, 0], came) == 1.0


@pytest.mark.parametrize("came", [[True, True], [False, False]])
def test_where_only_one_thing_happened_nothing_is_told_apart(came: list[bool]) -> None:
    assert auc([0.1, 0.9], came) == 0.5
    assert skill([0.1, 0.9], came) == 0.0


def test_the_reliability_diagram_tells_the_counts(tmp_path: Path) -> None:
    reliability(tmp_path / "r.svg", [0.02] * 7 + [0.97] * 3, [False] * 7 + [True] * 3)
    texts = [element.text for element in ElementTree.parse(tmp_path / "r.svg").iter() if element.text]
    assert {"7", "3"} <= {text.strip() for text in texts}

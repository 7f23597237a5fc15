"""Do the programs of other task queues do what the benchmark asks of them?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.bench import rival_rates
from scripts.bench.rival_rates import RIVALS, Rival, rival_figures

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_rival_publishes_and_drains(rival: Rival, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rival.installed():
        pytest.skip("make rivals installs it")
    monkeypatch.setattr(rival_rates, "RIVALS", (rival,))
    figures = {figure.name: figure.value for figure in rival_figures(1, submits=8, drains=40)}
    assert set(figures) == {f"{rival.name}_submit_per_s", f"{rival.name}_drain_per_s"}
    assert all(rate > 0 for rate in figures.values())


def test_a_rival_that_is_not_there_is_told_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = (
        Rival("elsewhere", "nowhere", "celery", python=tmp_path / "python"),
        Rival("other", "other", "no_such_queue"),
    )
    monkeypatch.setattr(rival_rates, "RIVALS", absent)
    assert rival_figures(1, submits=8, drains=8) == []
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["elsewhere", "other"]
    assert all("make rivals" in line for line in told)

"""Do the programs of other task queues do what the benchmark asks of them?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.bench import rival_rates
from scripts.bench.rival_rates import RIVALS, Rival, RivalRates

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_rival_publishes_and_drains(rival: Rival, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rival.installed():
        pytest.skip("make rivals installs it")
    monkeypatch.setattr(rival_rates, "RIVALS", (rival,))
    with ExitStack() as running:
        rates = RivalRates(running)
        seen = [rates.submit(8)]
        with rates.workers():
            seen += [rates.drain(40), rates.drain(40)]
    assert all(each.keys() == {rival.name} and each[rival.name] > 0 for each in seen)


def test_a_rival_that_is_not_there_is_told_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = (
        Rival("elsewhere", "nowhere", "celery", python=tmp_path / "python"),
        Rival("other", "other", "no_such_queue"),
    )
    monkeypatch.setattr(rival_rates, "RIVALS", absent)
    with ExitStack() as running:
        assert RivalRates(running).submit(8) == {}
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["elsewhere", "other"]
    assert all("make rivals" in line for line in told)

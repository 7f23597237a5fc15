"""Does `--real` choose the simulator's scene for real time, and is a bad value refused in one clear line?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.bench.real import journal
from scripts.bench.real.setting import NAMES, RealSetting, setting
from scripts.bench.sim import setting as simulated
from scripts.bench.sim.scenes import mixed


def given(*options: str) -> RealSetting:
    chosen = setting("overload", "about", ["--real", *options], rho=1.2)
    assert isinstance(chosen, RealSetting)
    return chosen


def test_without_it_nothing_changes() -> None:
    options = ["--requests", "2000", "--slots", "8"]
    assert setting("overload", "about", options, rho=1.2) == simulated.setting("overload", "about", options, rho=1.2)


def test_as_many_requests_arrive_as_fit_into_the_seconds() -> None:
    chosen = given("--seconds", "30", "--speed", "3", "--slots", "16", "--mean-service-ms", "2000")
    assert (chosen.bench, chosen.policies, chosen.seeds) == ("overload-real", NAMES, [1])
    assert chosen.span_ms(1.2) == pytest.approx(90_000, rel=0.001)
    assert mixed(chosen, 1.2, 1).pool.slots == 16
    assert given("--quick").scale.requests < given().scale.requests
    assert not given().sweeps


def test_the_measured_way_is_first() -> None:
    assert given("--policies", "fifo,simulated,qosqueue").policies == ("qosqueue", "fifo", "simulated")


def test_the_simulated_way_is_the_rule_on_the_same_requests() -> None:
    chosen = given("--seconds", "20", "--slots", "8")
    work = mixed(chosen, 1.2, 1)
    same = simulated.setting("overload", "about", ["--slots", "8"], rho=1.2).run("qosqueue", work)
    assert chosen.run("simulated", work).started_ms == same.started_ms
    assert len(chosen.notes) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--policies", "edf"), "got edf"),
        (("--speed", "0"), "expected a number from 0.1"),
        (("--seconds", "1"), "expected a whole number from 5"),
        (("--rounds", "0"), "expected a whole number from 1"),
        (("--slots", "0"), "expected a whole number from 1"),
        (("--sped", "2"), "unrecognized arguments"),
    ],
)
def test_a_bad_value_is_refused(options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        given(*options)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.split("\n")[-2]


def test_its_own_options_stand_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        given("--help")
    assert "--speed" in capsys.readouterr().out


def test_the_first_of_two_starts_counts(tmp_path: Path) -> None:
    (tmp_path / "1.journal").write_text("started 7 300\nended 7 400\n")
    (tmp_path / "2.journal").write_text("started 7 200\npublished 7 100\n")
    assert journal.read(tmp_path, "started") == {7: 200}
    journal.Journal(tmp_path).note("started", 8)
    assert set(journal.read(tmp_path, "started")) == {7, 8}

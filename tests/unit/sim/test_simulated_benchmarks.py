"""Does each benchmark in simulated time print its figures, by their names, on one line of JSON?"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from qosqueue.errors import InvalidField
from qosqueue.policy.terms import TIERS, Tier
from scripts.bench import report
from scripts.bench.binding import measure as measure_binding
from scripts.bench.capacity import capacity
from scripts.bench.flood import measure as measure_flood
from scripts.bench.scale import Timed, bytes_per_request, sized
from scripts.bench.sim.loop import run
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import make, setting
from scripts.bench.sim.slots import Slots

SMALL = ["--requests", "1000", "--slots", "8", "--quick", "--policies", "edf,fifo"]
FIGURES = {
    "flood": {"vip_p99_ratio", "vip_wait_p99_services", "quiet_in_slo"},
    "overload": {"in_slo", "vip_in_slo", "goodput_vs_fifo", "oracle_gap"},
    "capacity": {"capacity_vs_fifo", "capacity_vs_best_baseline"},
    "harvest": {"idle_used", "online_loss", "vip_p99_ratio", "batch_in_window"},
    "light": {"worst_vs_fifo"},
    "binding": {"misses_vs_jsq"},
    "prediction": {"loss_at_sigma_06", "risk_calibration_error", "risk_auc"},
    "fairness": {"contract_shortfall", "jain", "sharded_flood_quiet_in_slo"},
}


@pytest.mark.parametrize("bench", FIGURES)
def test_the_last_line_of_stdout_holds_the_figures(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path)
    assert importlib.import_module(f"scripts.bench.{bench}").main(SMALL) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bench"] == bench
    assert FIGURES[bench] <= set(told["figures"])
    assert all(isinstance(value, float) for value in told["figures"].values())
    assert {path.suffix for path in tmp_path.iterdir()} == {".txt", ".svg", ".json"}


def test_the_sizes_of_scale_differ_by_a_factor_and_last_as_long() -> None:
    chosen = setting("scale", "about", [], rho=1.2)
    large, small = sized(chosen, 1), sized(chosen, 100)
    assert (large.scale.slots, large.scale.requests, sum(large.mix.tenants.values())) == (8_000, 1_000_000, 10_000)
    assert (small.scale.slots, small.scale.requests, sum(small.mix.tenants.values())) == (80, 10_000, 100)
    assert large.span_ms(1.2) == small.span_ms(1.2)


def test_a_rule_is_timed_and_weighed_by_what_waits() -> None:
    chosen = setting("scale", "about", SMALL, rho=1.2)
    work = mixed(chosen, 1.2, 1)
    timed = Timed(make("fifo", work.pool))
    assert run(timed, work.requests, Slots(8)).started_ms == chosen.run("fifo", work).started_ms
    assert timed.spent_ns > 0
    assert 8 <= bytes_per_request("fifo", work) < 50


def test_capacity_is_the_last_load_that_is_borne() -> None:
    assert capacity(lambda steps: steps <= 200) == 200 / 256
    assert capacity(lambda steps: False) == 8 / 256
    assert capacity(lambda steps: True) == 384 / 256


@pytest.mark.parametrize("tier", TIERS)
def test_no_tier_s_flood_takes_the_others_starts(tier: Tier) -> None:
    options = ["--requests", "2000", "--policies", "qosqueue", "--flood-tier", tier]
    report = measure_flood(setting("flood", "about", options, rho=0.9))
    quiet = next(figure for figure in report.figures if figure.name == "quiet_in_slo")
    # A vip flood is stopped once it has twice the pool: so short a run is mostly that beginning.
    assert quiet.value >= (0.8 if tier is Tier.VIP else 0.95)


@pytest.mark.parametrize("options", [["--slots", "10"], ["--slots", "4"], ["--server", "iterations"]])
def test_binding_needs_whole_replicas_of_fixed_slots(options: list[str]) -> None:
    chosen = setting("binding", "about", [*SMALL, *options], rho=0.95)
    with pytest.raises(InvalidField):
        measure_binding(chosen)

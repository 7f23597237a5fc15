"""Does running all benchmarks keep what ran, tell what failed, and touch nothing else?"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from qosqueue.errors import QosqueueError
from scripts import results_table
from scripts.bench import all as subject
from scripts.bench.catalog import CATALOG, Bench

PAGE = "# Results\n<!-- generated: bench -->\nold\n<!-- end: bench -->\nby hand\n"


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "results.md").write_text(PAGE)
    monkeypatch.setattr(results_table, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(results_table, "KEPT", tmp_path / "results.json")
    monkeypatch.setattr(subject, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(subject, "OUT", tmp_path / "out")
    return tmp_path


def record(value: float, pictures: list[str]) -> dict[str, Any]:
    seen = {"name": "in_slo", "value": value, "low": value, "high": value, "unit": "", "bar": [">=", 0.9]}
    told = {"bench": "?", "commit": "?", "seed": 1, "machine": "here", "date": "2026-11-23"}
    return {**told, "figures": [seen], "baselines": [], "pictures": pictures}


def runs(monkeypatch: pytest.MonkeyPatch, values: dict[str, float | None], pictures: list[str]) -> None:
    """Each benchmark leaves this value; None: it fails."""

    def run(bench: Bench, more: list[str], folder: Path) -> dict[str, Any]:
        value = values[bench.name]
        if value is None:
            raise QosqueueError("exit code 1")
        return record(value, pictures)

    monkeypatch.setattr(subject, "run", run)


def test_only_the_named_rows_change_and_a_failure_stops_no_other(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(monkeypatch, {"overload": 0.95, "flood": 0.5}, ["attainment"])
    assert subject.main(["--only", "overload,flood"]) == 0
    runs(monkeypatch, {"flood": None, "overload": 0.25}, [])
    assert subject.main(["--only", "flood,overload", "--quick", "--json"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["failed"] == ["flood"]
    assert [one["bench"] for one in told["records"]] == ["overload"]
    assert "flood failed: exit code 1" in captured.err
    kept = {one["bench"]: one for one in json.loads((docs / "results.json").read_text())}
    assert {bench: one["figures"][0]["value"] for bench, one in kept.items()} == {"flood": 0.5, "overload": 0.25}
    assert kept["overload"]["command"] == 'make -s bench NAME=overload ARGS="--quick"'
    assert kept["overload"]["pictures"] == ["attainment"]
    page = (docs / "results.md").read_text()
    assert page.startswith("# Results\n<!-- generated: bench -->\n| benchmark |")
    assert page.endswith("<!-- end: bench -->\nby hand\n")
    assert page.index("| flood |") < page.index("| overload |")


def test_no_simulation_runs_beside_one_that_measures_time(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[str] = []
    beside: dict[str, list[str]] = {}
    both = threading.Barrier(2)

    def run(bench: Bench, more: list[str], folder: Path) -> dict[str, Any]:
        beside[bench.name] = running.copy()
        running.append(bench.name)
        if not bench.timed:
            both.wait(10)  # only if two of them run at once
        running.remove(bench.name)
        return record(1.0, [])

    monkeypatch.setattr(subject, "run", run)
    assert subject.main(["--only", "overload,queue,flood,fastpath", "--jobs", "2"]) == 0
    assert beside["queue"] == beside["fastpath"] == []
    assert beside.keys() == {"overload", "queue", "flood", "fastpath"}


def test_names_with_a_star_are_all_that_fit_and_elsewhere_is_quick(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, {"flood-4-slots": 1.0, "harvest-4-slots": 0.5}, [])
    assert subject.main(["--only", "flood-4*,harvest-4*", "--quick"]) == 0
    kept = {one["bench"]: one["command"] for one in json.loads((docs / "results.json").read_text())}
    assert kept == {
        f"{name}-4-slots": f'make -s bench NAME={name} ARGS="--slots 4 --quick"' for name in ("flood", "harvest")
    }


def test_the_rows_on_a_trace_need_it_and_name_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACES", str(tmp_path))
    bench = next(one for one in CATALOG if one.name == "flood-azure")
    assert not bench.there
    (tmp_path / "azure2023_code.csv").write_text("")
    assert bench.there
    assert bench.command() == 'make -s bench NAME=flood ARGS="--trace azure2023_code.csv --quick"'


def test_a_run_elsewhere_keeps_no_picture_and_one_of_time_keeps_its_bars(docs: Path) -> None:
    given = ("--requests", "1000", "--slots", "8", "--policies", "edf,fifo", "--quick")
    assert subject.run(Bench("a", "light", given, elsewhere=True), [], docs / "out" / "a")["pictures"] == []
    assert not (docs / "pictures").exists()
    assert subject.run(Bench("b", "overload", given, timed=True), [], docs / "out" / "b")["pictures"] == ["bars"]
    assert (docs / "pictures" / "b-bars.svg").exists()


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        subject.main(["--only", "flood,nothing"])
    assert ended.value.code == 2
    assert "got nothing" in capsys.readouterr().err


def test_no_jobs_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        subject.main(["--jobs", "0"])
    assert ended.value.code == 2
    assert "expected a number above 0, got 0" in capsys.readouterr().err


def test_a_benchmark_runs_in_a_process_of_its_own_and_leaves_its_record(docs: Path) -> None:
    bench = Bench("light", "light", ("--requests", "1000", "--slots", "8", "--policies", "edf,fifo"))
    made = subject.run(bench, ["--quick"], docs / "out" / "light")
    assert made["bench"] == "light"
    assert made["figures"][0]["name"] == "worst_vs_fifo"
    assert made["figures"][0]["low"] <= made["figures"][0]["value"] <= made["figures"][0]["high"]
    with pytest.raises(QosqueueError, match="exit code 2"):
        subject.run(bench, ["--slots", "none"], docs / "out" / "other")


def test_a_picture_that_is_too_large_is_not_kept(docs: Path) -> None:
    drawn = docs / "drawn.svg"
    drawn.write_bytes(b"x" * (subject.LARGEST_PICTURE_BYTES + 1))
    with pytest.raises(QosqueueError, match="200001 bytes"):
        subject._keep_picture(drawn, "flood-starts.svg")
    drawn.write_bytes(b"x")
    subject._keep_picture(drawn, "flood-starts.svg")
    assert (docs / "pictures" / "flood-starts.svg").read_bytes() == b"x"

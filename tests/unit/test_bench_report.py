"""Does a benchmark tell its figures in the agreed form?"""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qosqueue.errors import QosqueueError
from scripts.bench import report as subject
from scripts.bench.report import Bar, Figure, Report, arguments, percentile, picture, publish, run, table

AT = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
REPORT = Report(
    "queue",
    7,
    [
        Figure("submit_ratio", [0.97, 0.99, 0.9, 1.2, 0.98], bar=Bar(">=", 0.95)),
        Figure("pick_p99_ms", [1.5, 1.25, 1.0, 3.0, 0.5], "ms", Bar("<=", 1.0)),
        Figure("pick_p50_ms", [0.123456, 0.123456, 0.123456, 0.123456, 0.123456], "ms"),
    ],
    [Figure("stock_submit_per_s", [2000, 1000, 3000, 2500, 1500], "1/s")],
)


def published(folder: Path, report: Report = REPORT) -> tuple[str, str]:
    tables, stdout = io.StringIO(), io.StringIO()
    publish(report, AT, folder=folder, tables=tables, stdout=stdout)
    return tables.getvalue(), stdout.getvalue()


def test_stdout_is_one_json_object_with_the_medians(tmp_path: Path) -> None:
    _, stdout = published(tmp_path)
    assert stdout.count("\n") == 1
    told = json.loads(stdout)
    assert set(told) == {"bench", "commit", "seed", "machine", "figures", "baselines"}
    assert (told["bench"], told["seed"]) == ("queue", 7)
    assert told["figures"] == {"submit_ratio": 0.98, "pick_p99_ms": 1.25, "pick_p50_ms": 0.1235}
    assert told["baselines"] == {"stock_submit_per_s": 2000}
    assert told["commit"]
    assert "cores" in told["machine"]


def test_the_table_has_spread_bar_and_verdict_of_each_figure(tmp_path: Path) -> None:
    tables, _ = published(tmp_path)
    rows = {line.split()[0]: line for line in tables.splitlines() if line}
    assert "0.9 .. 1.2" in rows["submit_ratio"]
    assert rows["submit_ratio"].endswith("met")
    assert "0.5 .. 3" in rows["pick_p99_ms"]
    assert "<= 1" in rows["pick_p99_ms"]
    assert rows["pick_p99_ms"].endswith("MISSED")
    assert rows["pick_p50_ms"].endswith("ms")


def test_a_dated_text_and_a_picture_are_left(tmp_path: Path) -> None:
    tables, stdout = published(tmp_path / "out" / "bench")
    text, drawing = (tmp_path / "out" / "bench" / f"20261123-010203-queue.{kind}" for kind in ("txt", "svg"))
    assert text.read_text().startswith("2026-11-23T01:02:03+00:00\n")
    assert tables.strip() in text.read_text()
    assert json.loads(text.read_text().splitlines()[-1]) == json.loads(stdout)
    assert ElementTree.fromstring(drawing.read_text()).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_picture_draws_each_figure_against_its_bar() -> None:
    bars = [
        (int(shape.attrib["width"]), shape.attrib["fill"])
        for shape in ElementTree.fromstring(picture(REPORT)).iter("{http://www.w3.org/2000/svg}rect")
        if shape.attrib["width"] != "100%"
    ]
    assert [width for width, _ in bars] == [round(0.98 / 0.95 * subject.BAR_PX), round(1.25 * subject.BAR_PX)]
    assert bars[0][1] != bars[1][1]


def test_a_figure_that_is_no_number_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        published(tmp_path, Report("queue", 1, [Figure("pick_growth", [float("nan")] * 5)], []))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bar", "value", "holds"),
    [
        (Bar(">=", 0.95), 0.95, True),
        (Bar(">=", 0.95), 0.9499, False),
        (Bar("<=", 1.5), 1.5, True),
        (Bar("<=", 1.5), 1.51, False),
    ],
)
def test_a_bar_includes_its_limit(bar: Bar, value: float, holds: bool) -> None:
    assert bar.holds(value) is holds


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.5], 99) == 3.5


def test_fewer_than_five_rounds_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments("queue", "about", ["--rounds", "6", "--quick", "--seed", "3"]).rounds == 6
    with pytest.raises(SystemExit) as ended:
        arguments("queue", "about", ["--rounds", "4"])
    assert ended.value.code == 2
    assert "from 5" in capsys.readouterr().err


def test_a_run_that_cannot_be_made_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def measure() -> Report:
        raise QosqueueError("no broker")

    assert run(measure) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "bench: no broker\n")


def test_a_missed_bar_is_still_a_run_that_worked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "OUT", tmp_path)
    assert run(lambda: REPORT) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["bench"] == "queue"
    assert table(REPORT) in captured.err
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".svg", ".txt"}


def test_the_record_has_what_the_line_of_json_has_not(tmp_path: Path) -> None:
    published(tmp_path)
    kept = json.loads((tmp_path / "20261123-010203-queue.json").read_text())
    assert (kept["bench"], kept["date"], kept["pictures"]) == ("queue", "2026-11-23", [])
    assert kept["figures"][0] == {
        "name": "submit_ratio", "value": 0.98, "low": 0.9, "high": 1.2, "unit": "", "bar": [">=", 0.95]
    }  # fmt: skip
    assert kept["baselines"][0]["bar"] is None

"""Does the table of results say what was measured, against which bar, and beside what?"""

from __future__ import annotations

from typing import Any

from scripts import results_table as subject


def figure(
    name: str, value: float, bar: list[Any] | None = None, unit: str = "", spread: float = 0.0
) -> dict[str, Any]:
    return {"name": name, "value": value, "low": value - spread, "high": value + spread, "unit": unit, "bar": bar}


def record(bench: str = "overload", **changes: Any) -> dict[str, Any]:
    return {
        "bench": bench,
        "commit": "abc1234",
        "seed": 1,
        "machine": "2 cores, Linux",
        "date": "2026-11-23",
        "command": f"make -s bench NAME={bench}",
        "figures": [
            figure("in_slo", 0.9375, [">=", 0.9], spread=0.0125),
            figure("vip_in_slo", 0.99, [">=", 0.995]),
            figure("pick_p50_ms", 0.25, unit="ms"),
        ],
        "baselines": [
            *(figure(f"{way}_in_slo", value) for way, value in (("edf", 0.25), ("smg", 0.75), ("fifo", 0.0625))),
            figure("oracle_in_slo", 0.95),
            figure("edf_vip_in_slo", 0.5),
            figure("stock_submit_per_s", 2000, unit="1/s"),
        ],
        "pictures": ["attainment"],
    } | changes


def test_a_row_has_spread_bar_verdict_and_where_it_was_measured() -> None:
    lines = subject.markdown([record()]).splitlines()
    assert lines[2] == (
        "| overload | `in_slo` | 0.9375 (0.925–0.95) | ≥ 0.9 | met | fifo 0.0625, oracle 0.95, smg 0.75, edf 0.25"
        " | `make -s bench NAME=overload` | 2 cores, Linux | 2026-11-23 | `abc1234` |"
    )
    assert lines[3].startswith("| overload | `vip_in_slo` | 0.99 | ≥ 0.995 | MISSED | edf 0.5 |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_what_has_no_bar_is_reported_in_one_row() -> None:
    reported = list(subject.rows(record()))[-1]
    assert reported == (
        "overload",
        "others",
        "`pick_p50_ms` 0.25 ms; `stock_submit_per_s` 2000 1/s",
        "",
        "reported",
        "",
    )


def test_the_best_other_is_the_least_where_the_bar_is_a_maximum() -> None:
    made = record(
        figures=[figure("loss", 0.5, ["<=", 0.5])],
        baselines=[figure("edf_loss", 3.0), figure("vtc_loss", 2.0), figure("qosqueue_loss", 0.0)],
    )
    assert next(subject.rows(made))[3:] == ("≤ 0.5", "met", "qosqueue 0, vtc 2, edf 3")


def test_of_many_others_only_the_best_is_told() -> None:
    made = record(
        figures=[figure("share", 0.5, [">=", 0.5])],
        baselines=[figure(f"{name}_share", value) for value, name in enumerate(("a", "b", "c", "d", "fifo", "e"))],
    )
    assert next(subject.rows(made))[5] == "fifo 4, best other e 5"


def test_a_picture_stands_under_the_table() -> None:
    caption = subject.CAPTIONS["overload-attainment"]
    assert subject.markdown([record()]).endswith(f"\n\n![{caption}](pictures/overload-attainment.svg)")


def test_new_records_replace_those_of_their_benchmarks_and_leave_the_others() -> None:
    kept = [record("queue", commit="old"), record("elsewhere", commit="old"), record("flood", commit="old")]
    merged = subject.merged(
        kept, [record("flood", commit="new"), record("light", commit="new")], ["flood", "queue", "light"]
    )
    assert [(one["bench"], one["commit"]) for one in merged] == [
        ("flood", "new"),
        ("queue", "old"),
        ("light", "new"),
        ("elsewhere", "old"),
    ]


def test_the_terminal_s_table_has_the_same_rows() -> None:
    lines = subject.text([record()]).splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:6] == ["overload", "in_slo", "0.9375", "(0.925–0.95)", "≥", "0.9"]
    assert lines[1].endswith("met       fifo 0.0625, oracle 0.95, smg 0.75, edf 0.25")

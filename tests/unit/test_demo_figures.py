"""Are the demonstration's figures what they are called, and does its sentence follow them?"""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from qosqueue.policy.terms import Tier
from scripts.demo.load import STREAMS
from scripts.demo.measure import Outcome, Run, percentile, sum_up
from scripts.demo.progress import Display, counts
from scripts.demo.system import Order
from scripts.demo.table import as_json, duration, legend, sentence, table

SECONDS = 10.0


def _vip(first_token_ms: float | None, end_ms: float | None = 900, **more: object) -> Outcome:
    return Outcome(Tier.VIP, first_token_ms, end_ms, **more)  # type: ignore[arg-type]


def _run(vip_first_ms: float, standard_end_ms: float | None, bulk_done: int, tokens: int = 10) -> Run:
    bulk = [Outcome(Tier.BASIC, 50, 100, tokens) for _ in range(bulk_done)]
    bulk += [Outcome(Tier.BASIC) for _ in range(8 - bulk_done)]
    return sum_up(
        [_vip(vip_first_ms, tokens=tokens), Outcome(Tier.STANDARD, 10, standard_end_ms, tokens), *bulk], SECONDS
    )


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([7], 50, 7),
        ([7], 99, 7),
        ([3, 1, 2], 50, 2),
        ([4, 1, 2, 3], 50, 2),
        (list(range(1, 101)), 99, 99),
        ([1, None, 2], 50, 2),
        ([1, None, None], 50, None),
        ([1, 2, None], 99, None),
    ],
)
def test_percentile_counts_the_unfinished_as_longest(
    values: list[float | None], percent: int, expected: float | None
) -> None:
    assert percentile(values, percent) == expected


def test_a_request_meets_its_budget_only_if_it_ended_in_the_window() -> None:
    first_token, whole, window = (STREAMS[tier].judged for tier in (Tier.VIP, Tier.STANDARD, Tier.BASIC))
    assert first_token.ms is not None
    assert whole.ms is not None
    assert _vip(first_token.ms).met(first_token)
    assert not _vip(first_token.ms + 1).met(first_token)
    assert not _vip(10, end_ms=None).met(first_token)
    assert not _vip(None, fault="HTTP 503").met(first_token)
    assert _vip(first_token.ms + 1, end_ms=whole.ms).met(whole)
    assert not _vip(10, end_ms=whole.ms + 1).met(whole)
    assert _vip(10**6, end_ms=10**6).met(window)
    assert not _vip(10, end_ms=None).met(window)


def test_figures_count_every_request_and_only_finished_tokens() -> None:
    outcomes = [
        _vip(100, tokens=20),
        _vip(501, end_ms=1_500, tokens=30),
        _vip(200, end_ms=None, tokens=7),
        _vip(None, end_ms=None, fault="HTTP 503"),
    ]
    run = sum_up(outcomes, SECONDS)
    vip = run.tiers[Tier.VIP]
    assert (vip.requests, vip.done, vip.met, vip.met_percent) == (4, 2, 1, 25.0)
    assert (vip.first_token_p50_ms, vip.first_token_p99_ms) == (200, None)
    assert (vip.end_p50_ms, vip.end_p99_ms) == (1_500, None)
    assert vip.tokens_per_s == run.tokens_per_s == 5.0
    assert run.faults == {"HTTP 503": 1}
    assert run.tiers[Tier.BASIC].met_percent == 0.0


def test_the_sentence_says_which_way_each_figure_went() -> None:
    worse, better = _run(9_000, None, 6, tokens=10), _run(200, 1_000, 2, tokens=30)
    told = sentence({"fifo": worse, "qos": better})
    assert "vip requests in budget (first token within 500 ms) rose from 0 to 100 %" in told
    assert "standard requests in budget (answer within 4 s) rose from 0 to 100 %" in told
    assert "bulk jobs done fell from 6 to 2 of 8" in told
    assert "the work of all tenants together rose from 7 to 12 tokens/s" in told
    told = sentence({"fifo": better, "qos": worse})
    assert "(first token within 500 ms) fell from 100 to 0 %" in told
    assert "bulk jobs done rose from 2 to 6 of 8" in told
    told = sentence({"fifo": better, "qos": better})
    assert "rose" not in told
    assert "fell" not in told
    assert "stayed at 100 %" in told


def test_the_table_shows_both_ways_of_every_tier_within_80_columns() -> None:
    runs: dict[Order, Run] = {"fifo": _run(9_000, None, 6), "qos": _run(200, 1_000, 2)}
    screen = io.StringIO()
    Console(file=screen, width=80).print(table(runs))
    lines = screen.getvalue().splitlines()
    rows = [line.split() for line in lines if "FIFO" in line or "qosqueue" in line]
    assert [row[0] for row in rows[::2]] == ["vip", "standard", "basic", "all"]
    assert rows[0][1:6] == ["FIFO", "1/1", "0", "%", "9.0"]
    assert rows[1][:6] == ["qosqueue", "1/1", "100", "%", "200", "ms"]
    assert rows[4][1:5] == ["FIFO", "6/8", "75", "%"]
    assert "…" not in screen.getvalue()


def test_faults_and_gaps_are_explained_only_where_there_are_any() -> None:
    fine = _run(200, 1_000, 8)
    assert not any("fault" in line or "not in the window" in line for line in legend({"fifo": fine, "qos": fine}))
    refused = sum_up([_vip(None, end_ms=None, fault="HTTP 503: away")] * 3, SECONDS)
    told = legend({"fifo": refused, "qos": fine})
    assert "fault in FIFO, 3 times: HTTP 503: away" in told
    assert any(line.startswith("–: not in the window") for line in told)
    assert "stock Celery" in told[-1]


def test_the_json_object_has_every_figure() -> None:
    runs: dict[Order, Run] = {"fifo": _run(9_000, None, 6), "qos": _run(200, 1_000, 2)}
    read = json.loads(json.dumps(as_json(runs, seconds=SECONDS, seed=3)))
    assert (read["seconds"], read["seed"]) == (SECONDS, 3)
    standard = read["orders"]["fifo"]["tiers"]["standard"]
    assert standard == {
        "requests": 1,
        "done": 0,
        "met": 0,
        "met_percent": 0.0,
        "first_token_p50_ms": 10,
        "first_token_p99_ms": 10,
        "end_p50_ms": None,
        "end_p99_ms": None,
        "tokens_per_s": 0.0,
    }
    assert read["sentence"] == sentence(runs)


@pytest.mark.parametrize(
    ("ms", "shown"), [(None, "–"), (12.4, "12 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (7_249, "7.2 s")]
)
def test_duration(ms: float | None, shown: str) -> None:
    assert duration(ms) == shown


def test_progress_off_a_terminal_is_a_plain_line_now_and_then() -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, width=40), SECONDS)
    outcomes = [_vip(100), _vip(900), Outcome(Tier.BASIC, 10, 20)]
    with display.load("FIFO") as tell:
        for elapsed_s in (-0.2, 1, 4.9, 5, 5.2, 9.9):
            tell(elapsed_s, outcomes)
    assert screen.getvalue() == f"  FIFO  5 of 10 s  {counts(outcomes)}\n"
    assert counts(outcomes) == "in budget: vip 1/2, standard 0/0, basic 1 done"

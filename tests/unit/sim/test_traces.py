"""Are both public formats read from any path, and is a malformed line refused by its number?"""

from __future__ import annotations

from pathlib import Path

import pytest

from qosqueue.policy.terms import Tier
from scripts.bench.sim.shapes import flood
from scripts.bench.sim.tenants import DEFAULT_MIX, Tenant, compose
from scripts.bench.sim.traces import Row, read, traced
from scripts.bench.sim.work import Scale

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.2299600,110,27
2023-11-16 18:17:04,3180,8
"""
MOONCAKE = """{"timestamp": 500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 500, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}
{"timestamp": 3052, "input_length": 3, "output_length": 1, "hash_ids": []}
"""
MANY = [Row(10.0 * number, 100 + number % 7, 50 + number % 11) for number in range(2_000)]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "any name.txt"
    path.write_text(text, "utf-8")
    return path


def test_azure_s_csv(tmp_path: Path) -> None:
    rows = read(written(tmp_path, AZURE))
    assert [(round(row.at_ms), *row[1:]) for row in rows] == [(0, 4808, 10), (20, 3180, 8), (250, 110, 27)]


def test_mooncake_s_json_lines(tmp_path: Path) -> None:
    assert read(written(tmp_path, MOONCAKE)) == [Row(0, 6758, 500), Row(0, 7322, 490), Row(2552, 3, 1)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (AZURE + "2023-11-16 18:17:05,1\n", "line 5"),
        (AZURE + "yesterday,1,2\n", "line 5"),
        (AZURE + "2023-11-16 18:17:05,1,-2\n", "line 5"),
        (AZURE + "2023-11-16 18:17:05,1,many\n", "line 5"),
        ("when,in,out\n1,2,3\n", "line 1: expected TIMESTAMP,ContextTokens,GeneratedTokens"),
        ("", "line 1"),
        (MOONCAKE + "{}\n", "line 4"),
        (MOONCAKE + '{"timestamp": 1, "input_length": 2\n', "line 4"),
        (MOONCAKE + '{"timestamp": "1", "input_length": 2, "output_length": 3}\n', "line 4"),
        (MOONCAKE + '{"timestamp": 1, "input_length": 2.5, "output_length": 3}\n', "line 4"),
        (MOONCAKE + '{"timestamp": NaN, "input_length": 2, "output_length": 3}\n', "line 4"),
        (MOONCAKE + "[1, 2, 3]\n", "line 4"),
        (MOONCAKE + "\n", "line 4"),
        (AZURE.split("18:17:04.2")[0].rsplit("\n", 1)[0] + "\n", "expected at least 2 requests, got 1"),
        ("\n".join(MOONCAKE.split("\n")[:2]) + "\n", "at different times"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"any name\.txt") as caught:
        read(written(tmp_path, text))
    assert told in str(caught.value)


@pytest.mark.parametrize("load", [0.3, 1.2])
def test_a_trace_is_stretched_to_the_load_and_the_mean_service(load: float) -> None:
    scale = Scale(slots=8, requests=10_000)
    span_ms = Scale(slots=8, requests=len(MANY)).span_ms(load)
    work = traced(MANY, compose(DEFAULT_MIX, load, 1), scale, 1, span_ms=span_ms)
    assert len(work.requests) == len(MANY)
    assert sum(one.service_ms for one in work.requests) / (8 * span_ms) == pytest.approx(load, rel=0.001)
    assert work.pool.mean_service_ms == pytest.approx(scale.mean_service_ms, rel=0.01)
    assert 0.95 * span_ms < work.requests[-1].arrival_ms < span_ms
    again = traced(MANY, compose(DEFAULT_MIX, load, 1), scale, 1, span_ms=span_ms)
    assert [one.tenant for one in work.requests] == [one.tenant for one in again.requests]


def test_a_flood_comes_on_top_of_the_trace() -> None:
    span_ms, from_ms = 1_000_000, 500_000
    tenants = [Tenant("quiet", Tier.VIP, 0.5), Tenant("loud", Tier.BASIC, 0.5)]
    shapes = {"loud": flood(4, from_ms)}
    work = traced(MANY, tenants, Scale(slots=8), 1, span_ms=span_ms, shapes=shapes)
    counts = {
        (name, later): sum(one.tenant == name and (one.arrival_ms >= from_ms) is later for one in work.requests)
        for name in ("quiet", "loud")
        for later in (False, True)
    }
    assert counts["loud", True] / counts["loud", False] == pytest.approx(4, rel=0.15)
    assert counts["quiet", True] / counts["quiet", False] == pytest.approx(1, rel=0.15)
    assert sum(one.service_ms for one in work.requests) == pytest.approx(8 * (0.5e6 + 0.25e6 + 1.0e6), rel=0.001)

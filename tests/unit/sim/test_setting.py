"""Does each option do something, and is a bad value refused in one clear line?"""

from __future__ import annotations

from pathlib import Path

import pytest

from qosqueue.policy.terms import Tier
from scripts.bench.policies.registry import POLICIES
from scripts.bench.sim.scenes import FLOODER, contracted, equals, flooded, mixed, only, with_batch
from scripts.bench.sim.setting import MEASURED, Setting, setting

SMALL = ("--requests", "1000", "--slots", "8")


def given(*options: str) -> Setting:
    return setting("overload", "about", [*SMALL, *options], rho=1.2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--policies", "fifo,nobody"), "got nobody"),
        (("--policies", ""), "got none"),
        (("--trace", "/nowhere/trace.csv"), "No such file"),
        (("--server", "cloud"), "invalid choice"),
        (("--slots", "0"), "expected a whole number from 1, got '0'"),
        (("--requests", "10"), "expected a whole number from 1000"),
        (("--sigma", "-1"), "expected a number from 0 to 5"),
        (("--sigma", "much"), "expected a number from 0 to 5"),
        (("--rho", "nan"), "expected a number"),
        (("--mix", "vip=1:1"), "expected vip=TENANTS:PART"),
        (("--mix", "vip=1:1,standard=0:1,basic=1:1"), "expected a whole number from 1"),
        (("--mix", "vip=1:1,standard=1,basic=1:1"), "expected a number"),
        (("--mix", "gold=1:1,standard=1:1,basic=1:1"), "expected one of vip, standard, basic, got 'gold'"),
        (("--budgets-ms", "vip=1,standard=2,basic=x"), "expected a whole number"),
        (("--pattern", "wild"), "invalid choice"),
        (("--cv", "0"), "expected a number from 0.1 to 20"),
        (("--flood-factor", "0.5"), "expected a number from 1 to 100"),
        (("--flood-tier", "gold"), "expected one of vip"),
        (("--rounds", "4"), "expected a whole number from 5"),
    ],
)
def test_a_bad_value_is_refused(options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        given(*options)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.split("\n")[-2]


def test_a_malformed_trace_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 1}\n', "utf-8")
    with pytest.raises(SystemExit):
        given("--trace", str(path))
    assert "trace.jsonl, line 1" in capsys.readouterr().err


def test_the_measured_rule_is_first_and_else_the_first_named() -> None:
    assert given().measured == MEASURED
    assert set(given().policies) == {name for name in POLICIES if not name.endswith("-redis")}
    assert given("--policies", f"fifo,{MEASURED}").policies == (MEASURED, "fifo")
    assert given("--policies", "edf,fifo").policies == ("edf", "fifo")


def test_the_mix_and_the_budgets_reach_the_requests() -> None:
    chosen = given("--mix", "vip=1:70,standard=2:20,basic=3:10", "--budgets-ms", "vip=5,standard=6,basic=7")
    work = mixed(chosen, 1.0, 1)
    assert {one.tenant for one in work.requests} == {
        "vip-1", "standard-1", "standard-2", "basic-1", "basic-2", "basic-3"
    }  # fmt: skip
    assert {(one.tier, one.budget_ms) for one in work.requests} == {("vip", 5), ("standard", 6), ("basic", 7)}
    assert work.pool.budgets_ms[Tier.BASIC] == 7
    vip = sum(one.service_ms for one in work.requests if one.tier is Tier.VIP)
    assert vip / sum(one.service_ms for one in work.requests) == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("server", ["slots", "iterations"])
def test_both_servers_have_the_pool_s_slots(server: str) -> None:
    chosen = given("--server", server, "--slots", "37")
    assert chosen.slots(mixed(chosen, 1.0, 1).pool).free == 37


@pytest.mark.parametrize("shards", [1, 10])
def test_one_organisation_floods(shards: int) -> None:
    work = flooded(given("--flood-factor", "4", "--requests", "8000"), 1, shards=shards)
    tenants = {one.tenant for one in work.requests if one.organisation == FLOODER}
    assert len(tenants) == shards
    flooders = sum(one.service_ms for one in work.requests if one.organisation == FLOODER)
    quiet = sum(one.service_ms for one in work.requests if one.organisation != FLOODER)
    assert flooders / quiet == pytest.approx(0.3 * (0.2 + 0.8 * 4) / 0.6, rel=0.2)
    assert work.measured_from_ms == pytest.approx(0.2 * work.span_ms, abs=1)


def test_contracts_sum_to_the_pool_and_everybody_sends_more() -> None:
    work = contracted(given("--requests", "4000"), 1)
    assert sum(work.pool.contracts.values()) == pytest.approx(1)
    for tenant, contract in work.pool.contracts.items():
        sent = sum(one.service_ms for one in work.requests if one.tenant == tenant)
        assert sent / (work.pool.slots * work.span_ms) > 1.2 * contract


def test_equals_are_ten_of_one_tier() -> None:
    work = equals(given(), 1.2, 1)
    assert len({one.tenant for one in work.requests}) == 10
    assert {one.tier for one in work.requests} == {Tier.STANDARD}


def test_a_tier_alone_is_renumbered() -> None:
    work = mixed(given(), 1.0, 1)
    alone = only(work, Tier.VIP)
    assert [one.id for one in alone.requests] == list(range(len(alone.requests)))
    assert {one.tier for one in alone.requests} == {Tier.VIP}
    assert [one.id for one in work.requests] == list(range(len(work.requests)))


def test_batch_fills_the_part_of_idle_that_was_asked_in_chunks_of_a_second() -> None:
    work = mixed(given("--requests", "4000"), 0.5, 1)
    beside = with_batch(work, 0.9, 1, window_ms=600_000)
    chunks = [one for one in beside.requests if one.task_type == "batch"]
    assert max(one.service_ms for one in chunks) <= 1_000
    assert {one.budget_ms for one in chunks} == {600_000}
    asked = 0.9 * 0.5 * work.pool.slots * work.span_ms
    assert sum(one.service_ms for one in chunks) == pytest.approx(asked, rel=0.1)
    assert len(beside.requests) == len(work.requests) + len(chunks)
    assert [one.id for one in beside.requests] == list(range(len(beside.requests)))

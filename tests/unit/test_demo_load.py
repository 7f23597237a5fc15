"""Is the demonstration's load the same each time, and are its clients' clocks honest?"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qosqueue.policy.terms import Tier
from scripts.demo.__main__ import main
from scripts.demo.clients import Refused, read_stream
from scripts.demo.load import STREAMS, TAIL_S, record
from scripts.demo.system import environment

SECONDS = 18
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n'
USAGE = b'data: {"choices":[],"usage":{"completion_tokens":24}}\n'
DONE = b"data: [DONE]\n"


def test_the_same_seed_gives_the_same_load() -> None:
    assert record(SECONDS, 7) == record(SECONDS, 7)
    assert record(SECONDS, 7) != record(SECONDS, 8)


def test_arrivals_are_in_order_and_leave_every_request_its_budget() -> None:
    load = record(SECONDS, 7)
    instants = [arrival.at_s for arrival in load]
    assert instants == sorted(instants)
    assert instants[0] > 0
    assert instants[-1] < SECONDS - TAIL_S
    assert all(stream.judged.ms is None or stream.judged.ms <= TAIL_S * 1000 for stream in STREAMS.values())


def test_only_the_bulk_tenant_asks_for_more_than_two_small_cores_give() -> None:
    asked = dict.fromkeys(STREAMS, 0)
    for arrival in record(SECONDS, 7):
        asked[arrival.tier] += arrival.max_tokens
    per_s = {tier: tokens / (SECONDS - TAIL_S) for tier, tokens in asked.items()}
    assert per_s[Tier.VIP] + per_s[Tier.STANDARD] < 40
    assert per_s[Tier.BASIC] > 80
    assert min(asked.values()) > 0


def test_a_stream_is_timed_by_its_first_text_and_its_end() -> None:
    before = time.time()
    seen = read_stream([b": queued position=3\n", b"\n", ROLE, TOKEN, b"\n", TOKEN, USAGE, DONE])
    assert seen.tokens == 24
    assert seen.first_token_at is not None
    assert seen.ended_at is not None
    assert before <= seen.first_token_at <= seen.ended_at <= time.time()


def test_a_stream_that_is_cut_off_has_no_end() -> None:
    assert read_stream([ROLE]) == read_stream([])
    seen = read_stream([ROLE, TOKEN])
    assert seen.first_token_at is not None
    assert seen.ended_at is None


def test_a_failure_inside_a_stream_is_a_refusal() -> None:
    with pytest.raises(Refused, match="worker was lost"):
        read_stream([ROLE, b'data: {"error":{"message":"the worker was lost"}}\n'])


def test_the_shell_s_own_settings_do_not_reach_the_demonstration() -> None:
    shell = {"PATH": "/bin", "QOSQUEUE_REDIS_URL": "redis://elsewhere", "QOSQUEUE_ORDER": "qos"}
    assert environment(shell, Path("/h"), "fifo") == {
        "PATH": "/bin",
        "QOSQUEUE_HOME": "/h",
        "QOSQUEUE_ORDER": "fifo",
        "QOSQUEUE_LOG_LEVEL": "WARNING",
    }


@pytest.mark.parametrize("seconds", ["9", "121", "-5", "x", "1.5"])
def test_a_window_out_of_range_is_a_usage_error(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([f"--seconds={seconds}"])
    assert end.value.code == 2
    assert "expected a whole number from 10 to 120" in capsys.readouterr().err


def test_the_baseline_is_declared_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "stock Celery on stock Kombu with one queue" in capsys.readouterr().out

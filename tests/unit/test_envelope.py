"""What does the order make of a Celery message, with, without and with a broken `qos` header?"""

from __future__ import annotations

from typing import Any

import pytest

from qosqueue.broker.envelope import Envelope, band_of_priority, envelope_of, qos_header

GOOD = {"model": "m", "band": 1, "budget_ms": 250, "ttl_ms": 60_000, "max_attempts": 2}


def message(qos: Any = None, *, task: str | None = "task", priority: Any = 0) -> dict[str, Any]:
    headers = {} if task is None else {"id": task}
    if qos is not None:
        headers["qos"] = qos
    return {"headers": headers, "properties": {"delivery_tag": "tag", "priority": priority}}


def test_header_comes_back_as_the_envelope() -> None:
    made = message(qos_header(**GOOD)["qos"])  # type: ignore[arg-type]
    assert envelope_of("vip.light", made, 9) == Envelope("task", **GOOD)  # type: ignore[arg-type]


def test_a_task_without_the_header_goes_by_its_priority_and_never_expires() -> None:
    assert envelope_of("system", message(priority=4), 7) == Envelope("task", "", 1, 0, 0, 7)
    assert envelope_of("system", message(priority=None), 7).band == 0


@pytest.mark.parametrize("headers", [None, {}])
def test_a_plain_message_is_its_own_task(headers: Any) -> None:
    plain = {"headers": headers, "properties": {"delivery_tag": "tag"}}
    assert envelope_of("system", plain, 7) == Envelope("tag", "", 0, 0, 0, 7)


@pytest.mark.parametrize(
    "broken",
    [
        "vip",
        [],
        {},
        {**GOOD, "more": 1},
        {name: value for name, value in GOOD.items() if name != "band"},
        {**GOOD, "model": 7},
        {**GOOD, "band": "1"},
        {**GOOD, "band": -1},
        {**GOOD, "band": 3},
        {**GOOD, "budget_ms": 1.5},
        {**GOOD, "budget_ms": 2**60},
        {**GOOD, "ttl_ms": 2**53},
        {**GOOD, "ttl_ms": True},
        {**GOOD, "max_attempts": None},
        {**GOOD, "max_attempts": 0},
    ],
)
def test_a_malformed_header_is_refused_and_named(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"header 'qos' of a message for vip\.light"):
        envelope_of("vip.light", message(broken), 3)


@pytest.mark.parametrize(("priority", "band"), [(-5, 0), (0, 0), (2, 0), (3, 1), (6, 1), (7, 2), (9, 2), (255, 2)])
def test_bands_follow_the_tiers_ranges(priority: int, band: int) -> None:
    assert band_of_priority(priority) == band

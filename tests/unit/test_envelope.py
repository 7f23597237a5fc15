"""What does the order make of a Celery message, with, without and with a broken `qos` header?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qosqueue.broker.envelope import BATCH_WINDOW_MS, Envelope, envelope_of, plain_budget_ms, qos_header

GOOD: dict[str, Any] = {
    "model": "m",
    "tenant": "acme",
    "organisation": "group",
    "priority": 4,
    "batch": False,
    "budget_ms": 250,
    "cost_ms": 1_000,
    "ttl_ms": 60_000,
    "max_attempts": 2,
}


def message(qos: Any = None, *, task: str | None = "task", priority: Any = 0, eta: Any = None) -> dict[str, Any]:
    headers = {} if task is None else {"id": task, "eta": eta}
    if qos is not None:
        headers["qos"] = qos
    return {"headers": headers, "properties": {"delivery_tag": "tag", "priority": priority}}


def plain(task: str, **changes: Any) -> Envelope:
    nothing: dict[str, Any] = {"model": "", "tenant": "", "organisation": "", "priority": 0, "batch": False}
    nothing |= {"budget_ms": 0, "cost_ms": 0, "delay_ms": 0, "ttl_ms": 0, "max_attempts": 7}
    return Envelope(task, **(nothing | changes))


def test_header_comes_back_as_the_envelope() -> None:
    assert envelope_of("vip.light", message(qos_header(**GOOD)["qos"]), 9) == Envelope("task", delay_ms=0, **GOOD)


@pytest.mark.parametrize(("celery", "ours"), [(None, 0), (-5, 0), (4, 4), (9, 9), (255, 9)])
def test_a_task_without_the_header_goes_by_its_priority_and_never_expires(celery: Any, ours: int) -> None:
    assert envelope_of("system", message(priority=celery), 7) == plain("task", priority=ours)


@pytest.mark.parametrize(("priority", "budget_ms"), [(1, 1_000), (2, 1_000), (3, 3_000), (6, 3_000), (7, 10_000)])
def test_a_tenant_alone_gives_the_budget_of_the_priority(priority: int, budget_ms: int) -> None:
    made = envelope_of("tasks", message({"tenant": "acme"}, priority=priority), 7)
    assert made == plain("task", tenant="acme", organisation="acme", priority=priority, budget_ms=budget_ms)


@pytest.mark.parametrize(("header", "celery", "ours"), [({}, 0, 5), ({}, None, 5), ({}, 7, 7), ({"priority": 0}, 7, 0)])
def test_a_tenant_that_names_no_priority_is_standard(header: dict[str, Any], celery: Any, ours: int) -> None:
    made = envelope_of("tasks", message({"tenant": "acme", **header}, priority=celery), 7)
    assert (made.priority, made.budget_ms) == (ours, plain_budget_ms(ours))


@pytest.mark.parametrize("tenant", [{}, {"tenant": "acme"}])
def test_batch_without_a_budget_gets_a_window(tenant: dict[str, Any]) -> None:
    assert envelope_of("tasks", message({"batch": True, **tenant}), 7).budget_ms == BATCH_WINDOW_MS
    assert envelope_of("tasks", message({"batch": True, **tenant}), 7, batch_window_ms=9).budget_ms == 9
    assert envelope_of("tasks", message({"batch": True, "budget_ms": 5, **tenant}), 7).budget_ms == 5


def test_tasks_without_a_tenant_may_have_one_of_their_own() -> None:
    made = envelope_of("tasks", message(), 7, tenant="rest")
    assert (made.tenant, made.organisation, made.priority, made.budget_ms) == ("rest", "rest", 5, 3_000)
    assert envelope_of("tasks", message({"tenant": "acme"}), 7, tenant="rest").tenant == "acme"


@pytest.mark.parametrize("headers", [None, {}])
def test_a_plain_message_is_its_own_task(headers: Any) -> None:
    assert envelope_of("system", {"headers": headers, "properties": {"delivery_tag": "tag"}}, 7) == plain("tag")


@pytest.mark.parametrize(("seconds", "at_least", "at_most"), [(-9, 0, 0), (60, 50_000, 60_000)])
@pytest.mark.parametrize("aware", [True, False])
def test_an_eta_becomes_a_delay(seconds: int, at_least: int, at_most: int, aware: bool) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=seconds)
    made = envelope_of("system", message(eta=(eta if aware else eta.replace(tzinfo=None)).isoformat()), 7)
    assert at_least <= made.delay_ms <= at_most


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("vip", "expected fields"),
        ([], "expected fields"),
        ({**GOOD, "more": 1}, "more"),
        ({**GOOD, "model": 7}, "model"),
        ({**GOOD, "tenant": "x" * 129}, "tenant"),
        ({**GOOD, "priority": "1"}, "priority"),
        ({**GOOD, "priority": -1}, "priority"),
        ({**GOOD, "priority": 10}, "priority"),
        ({**GOOD, "batch": 1}, "batch"),
        ({**GOOD, "budget_ms": 1.5}, "budget_ms"),
        ({**GOOD, "budget_ms": 2**60}, "budget_ms"),
        ({**GOOD, "cost_ms": 2**27}, "cost_ms"),
        ({**GOOD, "ttl_ms": 2**53}, "ttl_ms"),
        ({**GOOD, "ttl_ms": True}, "ttl_ms"),
        ({**GOOD, "max_attempts": None}, "max_attempts"),
        ({**GOOD, "max_attempts": 0}, "max_attempts"),
    ],
)
def test_a_malformed_header_is_refused_and_named(broken: Any, named: str) -> None:
    with pytest.raises(ValueError, match=rf"header 'qos' of a message for vip\.light: .*{named}"):
        envelope_of("vip.light", message(broken), 3)

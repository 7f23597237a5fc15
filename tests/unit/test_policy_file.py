"""Is a policy file read strictly, each fault told by its key, and written so that it says the same again?"""

from __future__ import annotations

from typing import Any

import pytest

from qosqueue.errors import Conflict, InvalidPolicy
from qosqueue.service.policy_file import parse, written
from tests.support.policy_world import FILE

START = "schema = 1\n"


def test_a_file_becomes_what_it_names() -> None:
    document = parse(FILE)
    assert document["tenants"]["acme"] == {
        "enabled": True, "tier": "vip", "tokens_per_day": 5000, "road": ["retry", "fallback", "reject"],
    }  # fmt: skip
    other = document["models"]["other"]
    assert (other["memory_bytes"], other["weight_class"], other["weight_basis"]) == (0, "heavy", "parameters")
    assert (other["options"], document["models"]["small"]["slots"]) == ({"step_ms": 2}, 1)
    assert document["overrides"][1] == {"task_type": "batch", "tokens_per_minute": 100}
    assert parse(START) == {"tenants": {}, "models": {}, "overrides": [], "scenarios": []}


def test_what_was_written_reads_the_same() -> None:
    document = parse(FILE)
    assert parse(written(document)) == document
    given = parse(FILE.replace("memory_bytes = 1000", 'memory_bytes = 1000\nweight_class = "heavy"'))
    assert parse(written(given))["models"]["small"]["weight_basis"] == "given"


def test_what_toml_cannot_hold_is_told() -> None:
    document = parse(FILE)
    document["models"]["small"]["options"] = {"seed": None}
    with pytest.raises(Conflict, match="models: the options of one hold what TOML cannot"):
        written(document)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("schema = 1\nx", "policy.toml: expected TOML (Expected '=' after a key"),
        ("", "schema: expected 1, the version of this file's format, got nothing"),
        ("schema = 2", "schema: expected 1, the version of this file's format, got 2"),
        (START + "[tenant.a]", "tenant: expected one of schema, tenants, models, overrides, scenarios, got 'tenant'"),
        (START + "tenants = 3", "tenants: expected tables [tenants.NAME], got 3"),
        (START + "[tenants]\na = 1", "tenants.a: expected a table with one of tier, weight"),
        (START + "[tenants.a]\ntier = 'vip'\nwieght = 3", "tenants.a.wieght: expected one of tier, weight"),
        (START + "[tenants.a]\ntier = 'gold'", "tenants.a.tier: expected one of vip, standard, basic, got 'gold'"),
        (START + "[tenants.a]\nweight = 3", "tenants.a.tier: expected a value, got nothing"),
        (START + "[tenants.'a{b}']\ntier = 'vip'", "tenants.a{b}.name: expected 1 to 64 letters"),
        (
            START + "[tenants.a]\ntier = 'vip'\ntokens_per_day = -1",
            "tenants.a.tokens_per_day: expected a whole number from 1 to 1000000000000000, got -1",
        ),
        (START + "[tenants.a]\ntier = 'vip'\nroad = ['reject', 'retry']", "tenants.a.road: expected different steps"),
        (START + "[tenants.a]\ntier = 'vip'\nroad = ['retry', 'retry']", "tenants.a.road: expected different steps"),
        (START + "[tenants.a]\ntier = 'vip'\nroad = 'retry'", "tenants.a.road: expected different steps"),
        (START + "[models.m]\nengine = 'e'\ncontext_tokens = 1", "models.m.memory_bytes: expected a value"),
        (
            START + "[models.m]\nengine = 'E E'\ncontext_tokens = 1\nmemory_bytes = 1",
            "models.m.engine: expected 1 to 32 small letters",
        ),
        (
            START + "[models.m]\nengine = 'e'\ncontext_tokens = 1\nmemory_bytes = 1\nprewarm = 'at noon'",
            "models.m.prewarm: expected never, always, queued:N",
        ),
        (START + "overrides = [1]", "overrides: expected tables [[overrides]], got [1]"),
        (START + "[[overrides]]\ntenant = 'a'\nmax_queued = 1", "overrides[0]: expected a model, a task_type or both"),
        (START + "[[overrides]]\nmodel = 'm'", "overrides[0]: expected at least one of online_target_ms"),
        (START + "[[overrides]]\nmodel = 'm'\nweight = 1", "overrides[0].weight: expected one of tenant, model"),
        (
            START + "[[overrides]]\ntask_type = 'later'\nmax_queued = 1",
            "overrides[0].task_type: expected one of online, async, batch, got 'later'",
        ),
        (
            START + "[[overrides]]\nmodel = 'm'\nmax_queued = 1\n[[overrides]]\nmodel = 'm'\nmax_queued = 2",
            "overrides[1]: expected a tenant, model and task type that no other entry names",
        ),
        (START + "[[scenarios]]\nmodel = 'm'\ntask_type = 'batch'\nlower_ms = 1", "scenarios[0].tenant: expected a v"),
        (
            START + "[[scenarios]]\ntenant = 'a'\nmodel = 'm'\ntask_type = 'batch'",
            "scenarios[0]: expected at least one of lower_ms, upper_ms",
        ),
        (
            START + "[[scenarios]]\ntenant = 'a'\nmodel = 'm'\ntask_type = 'batch'\nlower_ms = 9\nupper_ms = 8",
            "scenarios[0].lower_ms: expected at most the upper bound, 8, got 9",
        ),
    ],
)
def test_a_fault_is_told_by_its_key(text: str, told: str) -> None:
    with pytest.raises(InvalidPolicy) as refused:
        parse(text)
    assert len(refused.value.faults) == 1
    assert str(refused.value).startswith(told), refused.value


def test_all_faults_are_told_at_once() -> None:
    wrong: Any = START + "[tenants.a]\ntier = 'gold'\nmax_queued = 1.5\n[models.m]\nengine = 'e'\nx = 1\n"
    with pytest.raises(InvalidPolicy) as refused:
        parse(wrong)
    assert [fault.field for fault in refused.value.faults] == [
        "tenants.a.tier", "tenants.a.max_queued", "models.m.x", "models.m.context_tokens", "models.m.memory_bytes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = " + "[" * 50_000, "tables and lists in at most 32 levels"),
        ("a = " + "{b=" * 50_000, "tables and lists in at most 32 levels"),
        ("a = " + "[" * 40 + "]" * 40, "tables and lists in at most 32 levels"),
        ("[models.m]\noptions" + ".a" * 2_000 + " = 1", "tables and lists in at most 32 levels"),
        ("a = " + "9" * 5_000, r"TOML \(Exceeds the limit \(4300 digits\)"),
        ("schema = 0x" + "f" * 5_000, "whole numbers of at most 64 bits"),
        ("[[overrides]]\nmodel = 'm'\nroad = [-9223372036854775809]", "whole numbers of at most 64 bits"),
    ],
)
def test_what_is_too_deep_or_too_large_to_be_read_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidPolicy, match=rf"^policy\.toml: expected {expected}") as refused:
        parse(text)
    assert len(str(refused.value)) < 500
